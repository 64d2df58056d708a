"""The documentation as pages: every link leads somewhere, nothing needs a looser policy."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from gateway.docsite import library, markdown, pages
from gateway.docsite.pages import CHINESE, ENGLISH, LANGUAGES

ROOT = Path(__file__).resolve().parents[2]
EVERY = [(language, page) for language in LANGUAGES for page in pages.all_pages()]
IDS = [f"{language}-{page.slug or 'index'}" for language, page in EVERY]


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.inline: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found.get("href") or "")
        if "id" in found:
            self.anchors.add(found["id"] or "")
        if "style" in found or any(name.startswith("on") for name in found):
            self.inline.append(str(attrs))
        if tag in ("style", "script") and "src" not in found:
            self.inline.append(tag)
        if tag in ("img", "script", "link") and (source := found.get("src") or found.get("href")):
            self.loaded.append(source)


def tags(html: str) -> Tags:
    parser = Tags()
    parser.feed(html)
    return parser


def body(language: str, page: pages.Page) -> Tags:
    return tags(library.shown(page, language)[0].html)


@pytest.mark.parametrize(("language", "page"), EVERY, ids=IDS)
def test_every_page_answers(client: Client, language: str, page: pages.Page) -> None:
    answer = client.get(library.address(page, language))
    assert answer.status_code == 200
    text = answer.content.decode()
    assert (
        f"<h1>{library.shown(page, language)[0].title}" in text.replace("&amp;", "&") or "`" in text
    )
    assert "relay.example.com" not in text
    assert client.get(f"/docs/{language}/{page.slug or 'index'}.md").status_code == 200


@pytest.mark.parametrize(("language", "page"), EVERY, ids=IDS)
def test_every_link_leads_somewhere(client: Client, language: str, page: pages.Page) -> None:
    source = pages.text_of(page, language)[0].relative_to(ROOT).as_posix()
    found = body(language, page)
    assert "" not in found.links, f"{source} links to what is not served"
    for link in {*found.links, *found.loaded}:
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        if not path:
            assert anchor in found.anchors, f"{source}: #{anchor}"
        elif path.startswith("/docs/"):
            assert client.get(path).status_code == 200, f"{source}: {path}"
            if anchor:
                slug = path.strip("/").partition("/")[2].partition("/")[2]
                there = body(language, pages.by_slug()[slug])
                assert anchor in there.anchors, f"{source}: {link}"
        else:
            assert path in KNOWN, f"{source}: {path}"


#: Pages of the product that texts name; their own tests open them.
KNOWN = {"/status/", "/status/gaps/", "/accounts/signup/", "/llms.txt", "/llms-full.txt"}
KNOWN |= {"/v1/schema", "/v1/docs"}


@pytest.mark.parametrize(("language", "page"), EVERY, ids=IDS)
def test_nothing_is_inline_and_all_is_ours(language: str, page: pages.Page) -> None:
    found = body(language, page)
    assert not found.inline
    assert all(source.startswith("/docs/files/") for source in found.loaded)


def test_every_text_is_a_page() -> None:
    """A file that is added to docs/ is in the navigation, or nobody finds it."""
    listed = {page.source for page in pages.all_pages()}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "docs").rglob("*.md")
        if CHINESE not in path.parts
    }
    assert there - listed == set()
    translated = {pages.translated(page.source) for page in pages.all_pages()}
    chinese = {p.relative_to(ROOT).as_posix() for p in (ROOT / "docs" / CHINESE).rglob("*.md")}
    assert chinese - translated == set()


def test_raw_html_is_text() -> None:
    made = markdown.render("# T\n\n<script>alert(1)</script>\n\n[x](javascript:alert)", resolve=str)
    assert "<script" not in made.html
    assert 'href="javascript' not in made.html


def test_code_is_coloured_by_class_and_escaped() -> None:
    made = markdown.render('```python\nprint("<b>")\n```\n\n```nolanguage\n<i>\n```', resolve=str)
    assert '<span class="nb">print</span>' in made.html
    assert "<b>" not in made.html
    assert "&lt;i&gt;" in made.html
    assert "style=" not in made.html


def test_headings_have_anchors_as_github_makes_them() -> None:
    text = "# Title\n\n## What it is: `x`\n\n## What it is: `x`\n\n### 中文 標題\n"
    made = markdown.render(text, resolve=str)
    assert made.title == "Title"
    anchors = [heading.anchor for heading in made.contents]
    assert anchors == ["what-it-is-x", "what-it-is-x-1", "中文-標題"]


def test_a_page_that_is_not_translated_says_so(client: Client) -> None:
    missing = [
        page for page in pages.all_pages() if not (ROOT / pages.translated(page.source)).exists()
    ]
    text = client.get(library.address(missing[0], CHINESE)).content.decode()
    assert "尚無繁體中文版" in text
    assert "尚無繁體中文版" not in client.get(library.address(missing[0], ENGLISH)).content.decode()


def test_where_one_is_and_what_is_next(client: Client) -> None:
    text = client.get("/docs/en/quickstart/").content.decode()
    assert re.search(r'href="/docs/en/quickstart/" aria-current="page"', text)
    assert 'rel="prev" href="/docs/en/"' in text
    assert 'rel="next" href="/docs/en/migrating/"' in text


def test_addresses_are_the_relays_own(client: Client, settings: Any) -> None:
    text = client.get("/docs/en/quickstart/").content.decode()
    assert "http://testserver/YOUR_KEY" in text
    assert "ws://testserver/YOUR_KEY/ws" in text
    assert f"testserver:{settings.RELAY_GRPC_PORT}" in text
    settings.RELAY_PUBLIC_URL = "https://hl.example"
    text = client.get("/docs/en/quickstart/").content.decode()
    assert "wss://hl.example/YOUR_KEY/ws" in text
    assert "hl.example:443" in text


def test_search_finds_by_heading_and_text(client: Client) -> None:
    rows = json.loads(client.get("/docs/en/search.json").content)
    assert all(len(row) == 4 for row in rows)
    assert ["/docs/en/limits/#close-codes", "Limits and close codes", "Close codes"] in [
        row[:3] for row in rows
    ]
    assert len(client.get("/docs/en/search.json").content) < 200_000


def test_for_language_models(client: Client) -> None:
    short = client.get("/llms.txt").content.decode()
    assert short.startswith("# HL Relay\n\n> ")
    for link in re.findall(r"\(http://testserver([^)]+)\)", short):
        assert client.get(link).status_code == 200, link
    full = client.get("/llms-full.txt").content.decode()
    assert "# Limits and close codes" in full
    assert "<html" not in full


@pytest.mark.parametrize(
    "path",
    [
        "/docs/fr/", "/docs/en/nothing/", "/docs/en/nothing.md", "/docs/files/manage.py",
        "/docs/files/..%2f..%2fmanage.py", "/docs/en/../../manage.md",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    assert client.get(path, follow=True).status_code == 404


def test_the_first_address_leads_on(client: Client) -> None:
    assert client.get("/docs/")["Location"] == "/docs/en/"


def test_no_page_is_a_door() -> None:
    """A path whose end is a door's would be answered by it, before Django sees it."""
    from relay_site.doors import edge
    from tenants.admission.presented import split_path

    for language, page in EVERY:
        path = library.address(page, language)
        assert not edge.serves(path), path
        assert split_path(path)[1] not in ("/ws", "/evm")


@pytest.mark.alone
def test_a_page_takes_20_ms_at_most(client: Client) -> None:
    client.get("/docs/en/relay-dialect/")
    took = []
    for _ in range(20):
        # Of this process alone: a busy machine is not the page.
        begun_s = time.process_time()
        client.get("/docs/en/relay-dialect/")
        took.append(time.process_time() - begun_s)
    assert sorted(took)[len(took) // 2] < 0.020
