"""One opaque string that says how far a customer has got: "everything of this topic up to here".

Made of the place in the chain and not of a process counter, so any process and any door of the
relay takes it. A subscription of many topics has one cursor too: a place up to which all of them
are complete, and the topics that are elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from streaming.core.envelope import Position

VERSION = 1
#: The source of everything made from node data, whatever its epoch: heights stay what they are.
NODE = "n"
NODE_EPOCH_PREFIX = "n-"
#: Topics named one by one in a cursor. Each takes about 14 characters.
MAX_OTHERS = 1_000
MAX_TEXT = 32_768
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class BadCursor(ValueError):
    """The text is no cursor of ours; the message is one line for the customer."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one source. `source` is `NODE`, or the epoch of a public link, within which alone
    its places mean something. `others` holds the topics (by `topic_key`) that are elsewhere.
    """

    source: str
    position: Position
    others: Mapping[int, Position] = field(default_factory=dict)

    def of(self, name: str) -> Position:
        """How far the topic called `name` has got."""
        return self.others.get(topic_key(name), self.position) if self.others else self.position


def source_of(epoch: str) -> str:
    """The cursor's source for an envelope's epoch."""
    return NODE if epoch.startswith(NODE_EPOCH_PREFIX) else epoch


def topic_key(name: str) -> int:
    """A topic in 32 bits. Two of one subscription that share them are told apart by nobody, at one
    chance in 200,000 for 200 topics: then one of them repeats frames or names a gap."""
    return zlib.crc32(name.encode())


def encode(cursor: Cursor) -> str:
    """The cursor as base64url without padding: 16 characters for a place of node data."""
    source = cursor.source.encode()
    body = bytearray((VERSION, len(source)))
    body += source
    _put(body, cursor.position.height)
    _put(body, cursor.position.index)
    for key, position in cursor.others.items():
        body += key.to_bytes(4, "big")
        _put(body, position.height)
        _put(body, position.index)
    body += (zlib.crc32(body) & 0xFFFF).to_bytes(2, "big")
    text = binascii.b2a_base64(body, newline=False)  # half of what `base64` takes for it
    return text.translate(_URL_SAFE, b"=").decode()


def decode(text: str) -> Cursor:
    """The cursor in `text`. Raises BadCursor."""
    if len(text) > MAX_TEXT:
        raise BadCursor(f"longer than {MAX_TEXT} characters")
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadCursor("not base64url") from None
    if len(body) < 6 or zlib.crc32(body[:-2]) & 0xFFFF != int.from_bytes(body[-2:], "big"):
        raise BadCursor("not a cursor of this relay, or cut off")
    if body[0] != VERSION:
        raise BadCursor(f"version {body[0]}; this relay reads version {VERSION}")
    try:
        return _read(memoryview(body)[1:-2])
    except (IndexError, UnicodeDecodeError):
        raise BadCursor("not a cursor of this relay, or cut off") from None


def _read(body: memoryview) -> Cursor:
    end = 1 + body[0]
    source = bytes(body[1:end]).decode("ascii")
    if not source or len(body) < end:
        raise IndexError
    height, at = _take(body, end)
    index, at = _take(body, at)
    others: dict[int, Position] = {}
    while at < len(body):
        key = int.from_bytes(body[at : at + 4], "big")
        its_height, at = _take(body, at + 4)
        its_index, at = _take(body, at)
        others[key] = Position(its_height, its_index)
    if len(others) > MAX_OTHERS:
        raise IndexError
    return Cursor(source, Position(height, index), others)


def _put(body: bytearray, value: int) -> None:
    while value > 0x7F:
        body.append(value & 0x7F | 0x80)
        value >>= 7
    body.append(value)


def _take(body: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError
