"""Snippets of the documentation, as they are written there, with a running relay's addresses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+)[ ]?([\w-]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def snippet(page: str, name: str) -> str:
    """The snippet that a page's fence calls `name`: ```` ```python name ````."""
    text = (ROOT / page).read_text("utf-8")
    found = [code for _, named, code in FENCE.findall(text) if named == name]
    assert len(found) == 1, f"{page} has {len(found)} snippets named {name}"
    return str(found[0])


def at(relay: dict[str, Any], text: str) -> str:
    """A text with the relay's own addresses and key in place of the examples."""
    for example, own in (
        ("https://relay.example.com", relay["http"]),
        ("wss://relay.example.com", relay["http"].replace("http", "ws", 1)),
        ("relay.example.com:443", relay["grpc"]),
        ("YOUR_KEY", relay["api_key"]),
    ):
        text = text.replace(example, own)
    assert "example.com" not in text
    return text
