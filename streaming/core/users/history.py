"""The last blocks of one file kind, to be asked for what they hold of one user.

Asked for by 1,000 addresses in one message, 16 MB must not be searched 1,000 times (10 ms each, in
the loop that hands out blocks): each block is taken apart once, when somebody asks, and by user.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from streaming.core import node_lines
from streaming.core.blocks import FileKind, RawBlock
from streaming.core.users import reading

#: How a node writes fills: pairs of a user and an object. Cut there, nothing need be decoded: 16 MB
#: of 44,000 strangers take 90 ms, once.
_FIRST_FILL, _NEXT_FILL = b'"events":[["', b'],["'
_LAST = b"]}"
_USER_CHARS = 42


class _Taken(NamedTuple):
    """A block taken apart: its size, and whose events it holds."""

    height: int
    size: int
    users: tuple[str, ...]


class _Part(NamedTuple):
    """One user's events in one block: as they came (the rest of a fill's pair), or decoded."""

    height: int
    events: list[Any]


class History:
    """Blocks of `kind`, oldest dropped beyond `max_bytes` of lines. What cannot be read is left
    out: it was counted when it came."""

    def __init__(self, kind: FileKind, *, max_bytes: int) -> None:
        self._kind = kind
        self._max_bytes = max_bytes
        self.height = 0  # of the newest; 0 when there is none
        self._bytes = 0
        self._whole: deque[tuple[int, RawBlock]] = deque()  # sizes and blocks not yet taken apart
        self._taken: deque[_Taken] = deque()  # older than those
        # Lists: most users have one part, and a deque takes 600 bytes.
        self._parts: dict[str, list[_Part]] = {}

    def keep(self, block: RawBlock, *, size: int) -> None:
        """Take a newer block, of `size` bytes."""
        self._whole.append((size, block))
        self.height = block.height
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop()

    def clear(self) -> None:
        """Forget everything."""
        self.height = self._bytes = 0
        self._whole.clear()
        self._taken.clear()
        self._parts.clear()

    def newest_first(self, user: str) -> Iterator[list[Any]]:
        """The user's decoded events, a list for each block that has some; within it in file
        order."""
        while self._whole:
            self._take_apart(*self._whole.popleft())
        for part in reversed(self._parts.get(user, ())):
            yield [event for event in map(_decoded, part.events) if event is not None]

    def _drop(self) -> None:
        if not self._taken:
            size, _ = self._whole.popleft()
            self._bytes -= size
            return
        oldest = self._taken.popleft()
        self._bytes -= oldest.size
        for user in oldest.users:
            parts = self._parts[user]
            del parts[0]
            if not parts:
                del self._parts[user]

    def _take_apart(self, size: int, block: RawBlock) -> None:
        by_user: dict[str, list[Any]] = {}
        for line in block.lines:
            if not (self._kind is FileKind.FILLS and _cut(line, by_user)):
                one = RawBlock(block.kind, block.height, [line], block.read_ns)
                decoded = node_lines.decode(one, Counter())
                for event in decoded.events if decoded else ():
                    for user, share in _shares(block.kind, event).items():
                        by_user.setdefault(user, []).append(share)
        for user, events in by_user.items():
            self._parts.setdefault(user, []).append(_Part(block.height, events))
        self._taken.append(_Taken(block.height, size, tuple(by_user)))


def _cut(line: bytes, by_user: dict[str, list[Any]]) -> bool:
    """Cut a line of fills into `by_user`; False when it is not written as nodes do."""
    begin = line.find(_FIRST_FILL)
    if begin < 0 or not line.endswith(_LAST):
        return False
    events = line[begin + len(_FIRST_FILL) : -len(_LAST)]
    pieces = events.removesuffix(b"]").split(_NEXT_FILL)
    if not all(map(_is_fill, pieces)):
        return False
    for piece in pieces:
        user, _, _ = piece.partition(b'"')
        by_user.setdefault(user.decode("ascii", "replace"), []).append(piece)
    return True


def _is_fill(piece: bytes) -> bool:
    """Whether it is an address and an object, and nothing of another shape hides in it."""
    return (
        piece.find(b'"') == _USER_CHARS
        and piece.startswith(b'",{', _USER_CHARS)
        and piece.endswith(b"}")
        and b"}]," not in piece
    )


def _shares(kind: FileKind, event: Any) -> dict[str, Any]:
    """What of an event is whose. An hour's funding is one event and names the whole market: each
    gets their own part of it."""
    users = reading.owners(kind, event)
    if kind is not FileKind.MISC or len(users) < 2 or "Funding" not in event["inner"]:
        return dict.fromkeys(users, event)
    deltas: dict[str, list[Any]] = {}
    for delta in event["inner"]["Funding"]["deltas"]:
        if isinstance(delta["user"], str):
            deltas.setdefault(delta["user"], []).append(delta)
    return {u: {**event, "inner": {"Funding": {"deltas": own}}} for u, own in deltas.items()}


def _decoded(event: Any) -> Any:
    if not isinstance(event, bytes):
        return event
    try:
        return orjson.loads(b'["%b]' % event)
    except ValueError:
        return None
