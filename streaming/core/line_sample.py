"""The head of a node's line: its own fields and its first event, whatever it weighs."""

from __future__ import annotations

import json
from typing import Any

#: A line of 450 KB costs 2 ms to decode, the first event of one 30 µs.
MAX_HEAD_BYTES = 16 * 1024
_EVENTS = b'"events":['
_DECODER = json.JSONDecoder()


def line_sample(line: bytes) -> dict[str, Any] | None:
    """The line with the first of its events alone; None when it cannot be told."""
    head = line[:MAX_HEAD_BYTES]
    begin = head.find(_EVENTS)
    if begin < 0:
        return None
    begin += len(_EVENTS)
    try:
        body = json.loads(head[:begin] + b"]}")
        if not head.startswith(b"]", begin):
            # What was cut off, cut within a character too, comes after the event.
            event, _ = _DECODER.raw_decode(head[begin:].decode("utf-8", "ignore"))
            body["events"].append(event)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
