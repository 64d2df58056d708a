"""What people read on a page: its texts without code, and those of them that are English."""

from __future__ import annotations

import re
from html.parser import HTMLParser

#: Not language: programs, keys, and what somebody typed.
CODE = frozenset({"code", "kbd", "pre", "samp", "script", "style", "svg", "template", "textarea"})
SPOKEN = frozenset({"alt", "aria-label", "placeholder", "title"})
#: Two words of a language that has spaces between them; names with digits and signs are none.
_ENGLISH = re.compile(r"(?<![\w@./:-])[A-Za-z][a-z’']*(?: [a-z][a-z’']*)+(?![\w@/])")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._within = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within += tag in CODE
        self.texts += [text for name, text in attrs if name in SPOKEN and text]

    def handle_endtag(self, tag: str) -> None:
        self._within -= tag in CODE

    def handle_data(self, data: str) -> None:
        if not self._within and data.strip():
            self.texts.append(" ".join(data.split()))


def read(html: str) -> list[str]:
    """The texts of a page, in their order."""
    reader = _Reader()
    reader.feed(html)
    return reader.texts


def english(html: str) -> list[str]:
    """Those with two words of English or more side by side; commands of a shell are none."""
    return [text for text in read(html) if _ENGLISH.search(text) and not text.startswith("$ ")]
