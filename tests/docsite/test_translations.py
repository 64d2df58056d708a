"""A translation has what its original has: headings, rows of tables, snippets, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.docsite import pages

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [
    (page.source, pages.translated(page.source))
    for page in pages.all_pages()
    if (ROOT / pages.translated(page.source)).exists()
]
#: Chinese punctuation may join what English sets apart; names in code are the same.
NAME = re.compile(r"`([A-Z]+_[A-Z0-9_{},]+|/[\w/{}.-]+|[a-z]\w+[A-Z]\w+)`")


def shape(text: str) -> dict[str, object]:
    """What can be counted without reading the language."""
    outside = re.sub(r"^```.*?^```$", "```", text, flags=re.DOTALL | re.MULTILINE)
    return {
        "headings": [len(marks) for marks in re.findall(r"^(#+) ", outside, re.MULTILINE)],
        "rows": len(re.findall(r"^\|", outside, re.MULTILINE)),
        "snippets": len(re.findall(r"^```", outside, re.MULTILINE)),
        "items": len(re.findall(r"^(?:- |\d+\. )", outside, re.MULTILINE)),
    }


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_a_translation_is_whole(english: str, chinese: str) -> None:
    original, translated = ((ROOT / name).read_text("utf-8") for name in (english, chinese))
    assert shape(translated) == shape(original)
    missing = set(NAME.findall(original)) - set(NAME.findall(translated))
    assert not missing, f"{chinese} lacks {sorted(missing)}"
    assert re.search(r"[\u4e00-\u9fff]", translated)


def test_the_readme_has_every_setting_and_command() -> None:
    original = (ROOT / "README.md").read_text("utf-8")
    translated = (ROOT / "README.zh-hant.md").read_text("utf-8")
    missing = set(NAME.findall(original)) - set(NAME.findall(translated))
    assert not missing, f"README.zh-hant.md lacks {sorted(missing)}: write a row for each"
    assert shape(translated)["headings"] == shape(original)["headings"]
    assert shape(translated)["rows"] >= shape(original)["rows"]  # type: ignore[operator]


def test_the_design_is_there_in_both_languages() -> None:
    designs = [page for page in pages.all_pages() if page.slug.startswith("design/")]
    assert len(designs) == 3
    for page in designs:
        assert (ROOT / page.source).exists()
        assert (ROOT / pages.translated(page.source)).exists()


def test_links_lead_somewhere_in_the_repository_too() -> None:
    """Where no translation is, a page links to the English one."""
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for link in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", path.read_text("utf-8")):
            if not link.startswith(("http", "/", "mailto:")):
                assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"
