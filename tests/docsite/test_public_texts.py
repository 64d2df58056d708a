"""Every text of the public pages is there in Traditional Chinese, and is shown."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from gateway import landing
from gateway.operations import sampling, services, status
from gateway.operations.freshness import Look
from tests.docsite.snippets import ROOT

CATALOGUE = ROOT / "gateway/docsite/locale/zh_Hant/LC_MESSAGES/django.mo"
TEMPLATES = [
    ROOT / "templates/public.html",
    ROOT / "templates/landing.html",
    *sorted((ROOT / "templates/docs").glob("*.html")),
    *sorted((ROOT / "templates/operations").glob("*.html")),
]
SOURCES = [ROOT / "gateway/landing.py", *sorted((ROOT / "gateway/operations").glob("*.py"))]


def texts_of(path: Path) -> set[str]:
    """What a template or a module marks as translatable; of blocks, as gettext has them."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return set(re.findall(r'(?:\b_|gettext_lazy)\(\s*"([^"]+)"\s*\)', text))
    found = {a or b for a, b in re.findall(r"""{% translate (?:"([^"]+)"|'([^']+)')""", text)}
    blocks = re.findall(r"{% blocktranslate[^%]*%}(.*?){% endblocktranslate %}", text, re.DOTALL)
    for block in blocks:
        first = block.split("{% plural %}")[0]
        found.add(re.sub(r"{{ (\w+) }}", r"%(\1)s", first))
    return found


@pytest.mark.parametrize("path", [*TEMPLATES, *SOURCES], ids=lambda path: path.name)
def test_every_text_has_a_translation(path: Path) -> None:
    with CATALOGUE.open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    known: dict[Any, str] = catalogue._catalog  # type: ignore[attr-defined]
    names = {name[0] if isinstance(name, tuple) else name for name in known}
    missing = texts_of(path) - names
    assert not missing, f"{path.name}: no translation of {sorted(missing)}"


@pytest.fixture
def chinese(db: None, settings: Any, tmp_path: Path) -> Iterator[Client]:
    """A browser that asks for Chinese as it is written in Taiwan."""
    settings.STATIC_ROOT = str(tmp_path)
    for kept in (status.kept, landing.plans):
        kept.forget()
    yield Client(headers={"Accept-Language": "zh-Hant-TW,zh-Hant;q=0.9"})
    for kept in (status.kept, landing.plans):
        kept.forget()


def test_they_are_shown(chinese: Client) -> None:
    sampling.record({"feed:books": Look(True, 412), "upstream:node0": Look(True)}, timezone.now())
    services.open_incident(title="T", text="t", impact="maintenance", state="scheduled")
    text = chinese.get("/status/").content.decode()
    for words in ("所有資料源皆新鮮", "節點 1", "維護", "缺口帳本", "未量測"):
        assert words in text
    assert "逐區塊的 Hyperliquid 行情" in chinese.get("/").content.decode()
    assert 'href="/docs/zh-hant/quickstart/"' in chinese.get("/").content.decode()
    assert chinese.get("/docs/")["Location"] == "/docs/zh-hant/"
    assert "本頁內容" in chinese.get("/docs/zh-hant/faq/").content.decode()
