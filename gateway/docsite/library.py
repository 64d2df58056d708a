"""Pages as they are shown: read when first asked for, and again when their file has changed."""

from __future__ import annotations

import json
import posixpath
from functools import lru_cache
from pathlib import Path

from gateway.docsite import markdown, pages
from gateway.docsite.markdown import Rendered
from gateway.docsite.pages import ENGLISH, Page

#: What texts write where a reader's own relay stands; the site puts its own address there.
EXAMPLE_HTTP = "https://relay.example.com"
EXAMPLE_WS = "wss://relay.example.com"
EXAMPLE_GRPC = "relay.example.com:443"


def shown(page: Page, language: str) -> tuple[Rendered, bool]:
    """A page in a language, or in English where it is not translated; and whether it is."""
    path, is_translated = pages.text_of(page, language)
    return _render(path, path.stat().st_mtime_ns, language), is_translated


def raw(page: Page, language: str) -> str:
    """A page's Markdown."""
    return pages.text_of(page, language)[0].read_text("utf-8")


def search_index(language: str) -> bytes:
    """JSON: `[[address, page, heading, text], …]` of every passage of every page."""
    stamps = tuple(pages.text_of(p, language)[0].stat().st_mtime_ns for p in pages.all_pages())
    return _index(language, stamps)


def address(page: Page, language: str, anchor: str = "") -> str:
    """Where a page is."""
    path = f"/docs/{language}/{page.slug}/" if page.slug else f"/docs/{language}/"
    return f"{path}#{anchor}" if anchor else path


def resolve(link: str, *, source: str, language: str) -> str:
    """The address for what a text links to: another page, a file that is served, or the web; ""
    where it is none of them."""
    if link.startswith(("#", "https://", "http://", "mailto:")):
        return link
    if link.startswith("/"):  # a page of the product itself
        return link
    target, _, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    page = pages.by_source().get(path)
    if page is not None:
        return address(page, language, anchor)
    name = posixpath.basename(path)
    served = pages.files().get(name)
    if served is not None and served == pages.root() / path:
        return f"/docs/files/{name}"
    return ""


@lru_cache(maxsize=256)
def _render(path: Path, _stamp: int, language: str) -> Rendered:
    source = path.relative_to(pages.root()).as_posix()
    return markdown.render(
        path.read_text("utf-8"),
        resolve=lambda link: resolve(link, source=source, language=language),
    )


@lru_cache(maxsize=8)
def _index(language: str, _stamps: tuple[int, ...]) -> bytes:
    rows = [
        [address(page, language, each.anchor), page.title(language), each.heading, each.text]
        for page in pages.all_pages()
        for each in shown(page, language)[0].passages
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def llms(base_url: str) -> str:
    """The list of pages for language models, as llmstxt.org has it."""
    lines = [
        "# HL Relay",
        "",
        "> A relay for Hyperliquid market data: WebSocket, gRPC and HTTP with API keys; books",
        "> every block, sequence numbers, cursors that resume without a gap, exact usage.",
    ]
    for section in pages.sections():
        lines += ["", f"## {section.english}", ""]
        for page in section.pages:
            about = _first_sentence(shown(page, ENGLISH)[0])
            name = page.slug or "index"
            lines.append(f"- [{page.english}]({base_url}/docs/{ENGLISH}/{name}.md): {about}")
    return "\n".join(lines) + "\n"


def llms_full() -> str:
    """Every page's text in one, but for the changelog."""
    texts = (raw(page, ENGLISH).strip() for page in pages.all_pages() if page.slug != "changelog")
    return "\n\n---\n\n".join(texts) + "\n"


def _first_sentence(page: Rendered) -> str:
    text = next((each.text for each in page.passages if each.text), "")
    head, stop, _ = text.partition(". ")
    return f"{head}." if stop else text[:200]
