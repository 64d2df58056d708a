"""`userEvents`: one topic made of several files, whose positions must rise all the same.

A block's events are released when every file has reached it, or when one of them is three blocks
further: `_streaming` files have no line for an empty block, and nodes may leave out whole files.
Within a block the files have ranges of indices of their own, so a frame's place does not depend on
which file came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.topic import Topic
from streaming.core.users import shapes
from streaming.core.users.reading import Found, Reading

#: A file further by this many blocks has nothing more to wait for: 0.2 s.
PATIENCE_BLOCKS = 3
#: Within a block: fills, then what the system canceled, then funding, then TWAPs.
_RANGE = 1 << 28
_BASES = {
    FileKind.FILLS: 0,
    FileKind.STATUSES: _RANGE,
    FileKind.MISC: 2 * _RANGE,
    FileKind.TWAP: 3 * _RANGE,
}
LATE = b"an event came after the block it belongs to was told"
_UNUSABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class _Part(NamedTuple):
    """A frame to be: whose, its index in the block, the frame."""

    user: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls here
    payload: bytes
    times: Times


@dataclass(slots=True)
class _Track:
    topic: Topic
    position: Position
    from_height: int  # blocks below belong to the time before it was wanted
    told: int = 0  # a gap up to this block has been told


class Mixed:
    """The `userEvents` topics. Counted in `faults`: `late_user_event`, `bad_user_event`."""

    def __init__(self, faults: Counter[str]) -> None:
        self._faults = faults
        self._tracks: dict[str, _Track] = {}
        self._released = 0
        self._pending: dict[int, list[_Part]] = {}

    @property
    def users(self) -> Collection[str]:
        """Whose events are wanted; changes with them."""
        return self._tracks.keys()

    def want(self, topic: Topic, *, reached: int) -> None:
        """Publish from block `reached` + 1 on, to which no file has come yet; idempotent."""
        if topic.user in self._tracks:
            return
        if not self._tracks:
            self._released = reached
        start = end_of(reached) if reached else ORIGIN
        self._tracks[topic.user] = _Track(topic, start, reached + 1)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        self._tracks.pop(topic.user, None)
        if not self._tracks:
            self._pending.clear()

    def place(self, topic: Topic) -> Position:
        """The last frame of the topic: from there on everything is told."""
        track = self._tracks.get(topic.user)
        if track is not None:
            return track.position
        return end_of(self._released) if self._released else ORIGIN

    def apply(
        self,
        block: RawBlock,
        read: Reading,
        *,
        heights: Mapping[FileKind, int],
        since: Position,
        epoch: str,
    ) -> list[Envelope]:
        """Take in one file's block; the frames of the blocks that are complete now.

        `heights` are those of the files that have sent anything, this block included; before
        `since` something may be missing.
        """
        out: list[Envelope] = []
        parts = self._parts(block, read)
        if block.height <= self._released:
            out += self._late(block.height, parts, since=since, epoch=epoch)
        elif parts:
            self._pending.setdefault(block.height, []).extend(parts)
        until = max(heights.values()) - PATIENCE_BLOCKS
        if len(heights) == len(_BASES):
            until = max(until, min(heights.values()))
        return out + self._release(until, since=since, epoch=epoch)

    def lost(
        self, height: int, *, reached: int, why: bytes, since: Position, epoch: str
    ) -> list[Envelope]:
        """A file is missing from block `reached` + 1 up to `height`: what is complete, and a gap
        for every topic.
        """
        if not self._tracks:
            return []
        out = self._release(reached, since=since, epoch=epoch)
        for pending in [at for at in self._pending if at <= height]:
            del self._pending[pending]  # half of a block; the gap covers it
        self._released = max(self._released, height)
        return out + [
            self._gap(track, why, since=since, epoch=epoch) for track in self._tracks.values()
        ]

    def _release(self, until: int, *, since: Position, epoch: str) -> list[Envelope]:
        out: list[Envelope] = []
        for height in sorted(at for at in self._pending if at <= until):
            for part in sorted(self._pending.pop(height), key=lambda part: part.index):
                track = self._tracks.get(part.user)
                if track is None or height < track.from_height:
                    continue
                here = Position(height, part.index)
                if here <= since:
                    continue  # half of a block: another file began behind it
                before, track.position = max(track.position, since), here
                out.append(
                    Envelope(
                        track.topic.name,
                        epoch,
                        here,
                        before,
                        Role.UPDATE,
                        part.payload,
                        part.times,
                    )
                )
        self._released = max(self._released, until)
        return out

    def _late(
        self, height: int, parts: Iterable[_Part], *, since: Position, epoch: str
    ) -> list[Envelope]:
        out: list[Envelope] = []
        for part in parts:
            track = self._tracks.get(part.user)
            if track is None or height < track.from_height:
                continue
            self._faults["late_user_event"] += 1
            if height > track.told:
                out.append(self._gap(track, LATE, since=since, epoch=epoch))
        return out

    def _gap(self, track: _Track, why: bytes, *, since: Position, epoch: str) -> Envelope:
        place = end_of(max(self._released, track.from_height - 1))
        before = max(track.position, since) if since < place else track.position
        track.position, track.told = place, place.height
        return Envelope(track.topic.name, epoch, place, before, Role.GAP, why)

    def _parts(self, block: RawBlock, read: Reading) -> list[_Part]:
        by_user: dict[str, list[Found]] = {}
        for event in read.found:
            if event.user in self._tracks:
                by_user.setdefault(event.user, []).append(event)
        base = _BASES[block.kind]
        return [
            _Part(user, base + index, _render(frame), read.times)
            for user, found in by_user.items()
            for index, frame in enumerate(self._frames(block.kind, user, found))
        ]

    def _frames(self, kind: FileKind, user: str, found: Iterable[Found]) -> list[dict[str, Any]]:
        """The `data` of the frames of one user's events in one file's block."""
        match kind:
            case FileKind.FILLS:
                lists = {
                    "fills": self._items(found, shapes.fill),
                    "twapSliceFills": self._items(found, shapes.twap_slice),
                }
            case FileKind.STATUSES:
                lists = {"nonUserCancel": self._items(found, shapes.non_user_cancel)}
            case FileKind.TWAP:
                lists = {"twapHistory": self._items(found, shapes.twap_status)}
            case _:
                own = self._items(found, lambda event: shapes.fundings(event, user))
                return [{"funding": item} for item in own]  # one a frame
        return [{name: items} for name, items in lists.items() if items]

    def _items(
        self, found: Iterable[Found], shape: Callable[[Any], list[shapes.Item]]
    ) -> list[shapes.Item]:
        items: list[shapes.Item] = []
        for event in found:
            try:
                items += shape(event.event)
            except _UNUSABLE:
                self._faults["bad_user_event"] += 1
        return items


def _render(data: dict[str, Any]) -> bytes:
    return orjson.dumps({"channel": "user", "data": data})
