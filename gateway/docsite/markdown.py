"""Markdown → HTML that a strict content policy lets through: no raw HTML, no inline style.

Pure: text in, HTML, contents and searchable sections out. What a link means is the caller's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

#: Deepest heading of the contents, and of what search finds.
DEEPEST = 3
#: What search keeps of a section: enough to find it, little enough to load.
SECTION_CHARS = 600
_FORMAT = HtmlFormatter(nowrap=True)
#: Names of languages that Pygments calls otherwise.
_LEXERS = {"sh": "bash", "ts": "typescript", "proto": "protobuf", "text": ""}


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading by its level, anchor and text."""

    level: int
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What stands under one heading, as plain text."""

    anchor: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page: its first heading, its HTML without it, its contents and its searchable passages."""

    title: str
    html: str
    contents: tuple[Heading, ...]
    passages: tuple[Passage, ...]


def render(text: str, *, resolve: Callable[[str], str]) -> Rendered:
    """The page of a Markdown text. `resolve` gives the address for what a link or image names."""
    md = _parser()
    env: dict[str, Any] = {}
    tokens = md.parse(text, env)
    title, tokens = _take_title(tokens)
    headings = _anchor(tokens)
    for token in _inline(tokens):
        if token.type == "link_open":
            token.attrSet("href", resolve(str(token.attrGet("href") or "")))
        elif token.type == "image":
            token.attrSet("src", resolve(str(token.attrGet("src") or "")))
            token.attrSet("loading", "lazy")
    html = str(md.renderer.render(tokens, md.options, env))
    return Rendered(title, html, tuple(headings), tuple(_passages(title, tokens)))


def slug_of(text: str, taken: set[str]) -> str:
    """A heading's anchor, as GitHub makes it, so that links work in both places."""
    slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") or "section"
    name, n = slug, 0
    while name in taken:
        n += 1
        name = f"{slug}-{n}"
    taken.add(name)
    return name


def coloured(code: str, language: str) -> str:
    """Code as spans with Pygments' class names; escaped as it is where the language is not
    known."""
    name = _LEXERS.get(language, language)
    try:
        lexer = get_lexer_by_name(name, stripnl=False) if name else None
    except ClassNotFound:
        lexer = None
    return escape(code) if lexer is None else str(highlight(code, lexer, _FORMAT))


def _parser() -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    md.renderer.rules["fence"] = _fence  # type: ignore[attr-defined]
    md.renderer.rules["code_block"] = _fence  # type: ignore[attr-defined]
    md.renderer.rules["table_open"] = _table_open  # type: ignore[attr-defined]
    md.renderer.rules["table_close"] = _table_close  # type: ignore[attr-defined]
    for cell in ("th_open", "td_open"):
        md.renderer.rules[cell] = _cell  # type: ignore[attr-defined]
    return md


# A region that scrolls sideways must be reachable by keyboard: hence tabindex.


def _fence(tokens: Sequence[Token], at: int, *_: Any) -> str:
    token = tokens[at]
    language = (token.info.split() or [""])[0]
    code = coloured(token.content, language)
    return f'<div class="pub-code"><pre tabindex="0"><code>{code}</code></pre></div>\n'


def _table_open(*_: Any) -> str:
    return '<div class="pub-table" tabindex="0"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"


def _cell(tokens: Sequence[Token], at: int, *_: Any) -> str:
    """Alignment as a class: markdown-it writes it as a style."""
    token = tokens[at]
    style = str(token.attrGet("style") or "")
    side = style.removeprefix("text-align:")
    return f'<{token.tag} class="pub-{side}">' if side else f"<{token.tag}>"


def _take_title(tokens: list[Token]) -> tuple[str, list[Token]]:
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        return _plain(tokens[1]), tokens[3:]
    return "", tokens


def _anchor(tokens: Sequence[Token]) -> list[Heading]:
    taken: set[str] = set()
    found = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            text = _plain(tokens[at + 1])
            anchor = slug_of(text, taken)
            token.attrSet("id", anchor)
            level = int(token.tag[1:])
            if level <= DEEPEST:
                found.append(Heading(level, anchor, text))
    return found


def _inline(tokens: Sequence[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or ()]


def _plain(token: Token) -> str:
    """An inline token's text without its marks."""
    kinds = {"text", "code_inline", "image"}
    return "".join(
        child.content if child.type in kinds else " " if child.type == "softbreak" else ""
        for child in token.children or ()
    )


def _passages(title: str, tokens: Sequence[Token]) -> list[Passage]:
    anchor, heading, words = "", title, list[str]()
    found = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and int(token.tag[1:]) <= DEEPEST:
            found.append(Passage(anchor, heading, " ".join(words)[:SECTION_CHARS]))
            anchor, heading, words = str(token.attrGet("id")), _plain(tokens[at + 1]), []
        elif token.type == "inline" and tokens[at - 1].type != "heading_open":
            words.append(_plain(token))
    found.append(Passage(anchor, heading, " ".join(words)[:SECTION_CHARS]))
    return [each for each in found if each.heading]
