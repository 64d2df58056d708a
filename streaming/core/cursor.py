"""One opaque string that says how far a customer has got: "everything of this topic up to here".

Made of the place in the chain and not of a process counter, so any process and any door of the
relay takes it. A subscription of many topics has one cursor too: a place up to which all of them
are complete, and the topics that are elsewhere. It says of what kind they are: an index counts
within one node file, and means nothing in another.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from streaming.core.envelope import LAST_INDEX, Position

#: The version written. Version 1 named no kind; it is still read, as one of any kind.
VERSION = 2
ANY_KIND = 0
#: The source of everything made from node data, whatever its epoch: heights stay what they are.
NODE = "n"
NODE_EPOCH_PREFIX = "n-"
#: Topics named one by one in a cursor: as many as a subscription may have. Each takes about 12
#: characters and at most 24: the longest still fits into a frame that a client may send (64 KB).
MAX_OTHERS = 2_000
MAX_TEXT = 49_152
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class BadCursor(ValueError):
    """The text is no cursor of ours; the message is one line for the customer."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one source. `source` is `NODE`, or the epoch of a public link, within which alone
    its places mean something. `others` holds the topics (by `topic_key`) that are elsewhere. `kind`
    is the `kind_key` of all of them.
    """

    source: str
    position: Position
    others: Mapping[int, Position] = field(default_factory=dict)
    kind: int = ANY_KIND

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


@lru_cache(maxsize=256)
def kind_key(kind: str, stream: str = "", by_event: bool = False) -> int:
    """Topics whose places mean the same, in 16 bits: those of one type, raw file and flush mode."""
    return zlib.crc32(f"{kind} {stream} {by_event}".encode()) & 0xFFFF or 1


def encode(cursor: Cursor) -> str:
    """The cursor as base64url without padding: 16 characters for a place of node data."""
    source = b"" if cursor.source == NODE else cursor.source.encode()
    body = bytearray((VERSION, len(source)))
    body += source
    body += cursor.kind.to_bytes(2, "big")
    height = cursor.position.height
    _put(body, height)
    _put(body, _short(cursor.position.index))
    for key, position in cursor.others.items():
        body += key.to_bytes(4, "big")
        back = height - position.height  # most are near: 1 or 2 bytes for 5
        _put(body, back << 1 if back >= 0 else (-back << 1) - 1)
        _put(body, _short(position.index))
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
    try:
        match body[0]:
            case 2:
                return _read(memoryview(body)[1:-2])
            case 1:
                return _read_1(memoryview(body)[1:-2])
    except (IndexError, UnicodeDecodeError, ValueError):
        raise BadCursor("not a cursor of this relay, or cut off") from None
    raise BadCursor(f"version {body[0]}; this relay reads up to version {VERSION}")


def _read(body: memoryview) -> Cursor:
    source, at = _source(body)
    kind, at = int.from_bytes(body[at : at + 2], "big"), at + 2
    height, at = _take(body, at)
    index, at = _take(body, at)
    others: dict[int, Position] = {}
    while at < len(body):
        key = int.from_bytes(body[at : at + 4], "big")
        back, at = _take(body, at + 4)
        its_index, at = _take(body, at)
        its_height = height + ((back + 1) >> 1) if back & 1 else height - (back >> 1)
        if its_height < 0:
            raise IndexError
        others[key] = Position(its_height, _long(its_index))
    return Cursor(source or NODE, Position(height, _long(index)), _bounded(others), kind)


def _read_1(body: memoryview) -> Cursor:
    source, at = _source(body)
    if not source:
        raise IndexError
    height, at = _take(body, at)
    index, at = _take(body, at)
    others: dict[int, Position] = {}
    while at < len(body):
        key = int.from_bytes(body[at : at + 4], "big")
        its_height, at = _take(body, at + 4)
        its_index, at = _take(body, at)
        others[key] = Position(its_height, its_index)
    return Cursor(source, Position(height, index), _bounded(others))


def _source(body: memoryview) -> tuple[str, int]:
    end = 1 + body[0]
    if len(body) < end:
        raise IndexError
    return bytes(body[1:end]).decode("ascii"), end


def _bounded(others: dict[int, Position]) -> dict[int, Position]:
    if len(others) > MAX_OTHERS:
        raise IndexError
    return others


def _short(index: int) -> int:
    """The end of a block, the commonest index of all, as 0."""
    return 0 if index == LAST_INDEX else index + 1


def _long(short: int) -> int:
    return short - 1 if short else LAST_INDEX


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
