"""The feeds of single users, from a node's files: orders, fills, funding, ledger, TWAPs.

A topic's frame is what one file holds about its user in one block; only `userEvents` is made of
several files (see `users/mixed.py`). What nobody follows is searched for names, and never decoded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import orjson

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.public_frames import ITEMS
from streaming.core.topic import Kind, Topic
from streaming.core.users import reading, shapes
from streaming.core.users.history import History
from streaming.core.users.mixed import Mixed
from streaming.core.users.reading import Found

__all__ = ["HISTORY_BYTES", "MAX_ITEMS", "UserFeeds"]

#: Items that open a feed; the exchange shows as many fills.
MAX_ITEMS = 2_000
#: Lines of each file kind kept for the opening of users nobody follows yet. The whole market's
#: fills are about 0.6 MB/s.
HISTORY_BYTES = 16 * 1024 * 1024

NO_DATA = "no node has sent this feed's file yet"
_LOST = {
    FileKind.FILLS: "no node has the fills",
    FileKind.STATUSES: "no node has the order statuses",
    FileKind.MISC: "no node has the misc events",
    FileKind.TWAP: "no node has the TWAP statuses",
}
_UNUSABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class _Recipe(NamedTuple):
    file: FileKind
    items: Callable[[Found], list[shapes.Item]]
    is_newest_first: bool = False  # in the snapshot, as the exchange's /info answers


_RECIPES: dict[Kind, _Recipe] = {
    Kind.ORDER_UPDATES: _Recipe(FileKind.STATUSES, lambda f: shapes.order_update(f.event)),
    Kind.USER_HISTORICAL_ORDERS: _Recipe(
        FileKind.STATUSES, lambda f: shapes.historical_order(f.event), is_newest_first=True
    ),
    Kind.USER_FILLS: _Recipe(FileKind.FILLS, lambda f: shapes.fill(f.event), is_newest_first=True),
    Kind.USER_TWAP_SLICE_FILLS: _Recipe(
        FileKind.FILLS, lambda f: shapes.twap_slice(f.event), is_newest_first=True
    ),
    Kind.USER_FUNDINGS: _Recipe(FileKind.MISC, lambda f: shapes.fundings(f.event, f.user)),
    Kind.USER_LEDGER: _Recipe(FileKind.MISC, lambda f: shapes.ledger_update(f.event)),
    Kind.USER_TWAP_HISTORY: _Recipe(
        FileKind.TWAP, lambda f: shapes.twap_status(f.event), is_newest_first=True
    ),
}


@dataclass(slots=True)
class _Track:
    """A wanted topic: where it stands, and what opens it (rendered items, oldest first)."""

    topic: Topic
    recipe: _Recipe
    position: Position
    items: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_ITEMS))


@dataclass(slots=True)
class _File:
    """What is known of one file kind."""

    history: History
    height: int = 0  # of the last block applied
    since: Position = ORIGIN  # up to here nothing is claimed
    users: dict[str, int] = field(default_factory=dict)  # followed: by how many topics
    tracks: dict[str, list[_Track]] = field(default_factory=dict)  # by user


class UserFeeds:
    """All user topics that node files hold, but for states. `faults` counts what could not be used.

    Not made here, because no file has it: `liquidation` in `userEvents`, `notification`.
    """

    KINDS: ClassVar[frozenset[Kind]] = frozenset({*_RECIPES, Kind.USER_EVENTS})
    FILES: ClassVar[frozenset[FileKind]] = frozenset(_LOST)

    def __init__(self, faults: Counter[str], *, history_bytes: int = HISTORY_BYTES) -> None:
        self.epoch = ""
        self._faults = faults
        self._history_bytes = history_bytes
        self._files = {
            kind: _File(History(kind, max_bytes=history_bytes))
            for kind in FileKind
            if kind in self.FILES
        }
        self._tracks: dict[Topic, _Track] = {}
        self._mixed = Mixed(faults)

    def can_serve(self, topic: Topic) -> bool:
        """Whether a node writes the topic's file. `userEvents` goes without funding where none
        writes misc events.
        """
        recipe = _RECIPES.get(topic.kind)
        return self._files[recipe.file if recipe else FileKind.FILLS].height > 0

    # --- demand -----------------------------------------------------------------------------------

    def want(self, topic: Topic) -> None:
        """Publish the topic's frames from the next block on; idempotent."""
        if topic.kind is Kind.USER_EVENTS:
            if topic.user in self._mixed.users:
                return
            reached = max(file.height for file in self._files.values())
            self._mixed.want(topic, reached=reached)
            for file in self._files.values():
                _follow(file, topic.user)
        elif topic not in self._tracks:
            track = self._tracks[topic] = self._begin(topic)
            file = self._files[track.recipe.file]
            file.tracks.setdefault(topic.user, []).append(track)
            _follow(file, topic.user)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        if topic.kind is Kind.USER_EVENTS and topic.user in self._mixed.users:
            self._mixed.unwant(topic)
            for file in self._files.values():
                _unfollow(file, topic.user)
        track = self._tracks.pop(topic, None)
        if track is None:
            return
        file = self._files[track.recipe.file]
        others = file.tracks[topic.user]
        others.remove(track)
        if not others:
            del file.tracks[topic.user]
        _unfollow(file, topic.user)

    def _begin(self, topic: Topic) -> _Track:
        recipe = _RECIPES[topic.kind]
        file = self._files[recipe.file]
        track = _Track(topic, recipe, end_of(file.height) if file.height else ORIGIN)
        for events in file.history.newest_first(topic.user):
            # What is unusable was counted when it came, or is when it is read for somebody.
            found = [Found(0, topic.user, event) for event in events]
            _, items = self._items(track, found, Counter())
            track.items.extendleft(reversed(items[-(MAX_ITEMS - len(track.items)) :]))
            if len(track.items) == MAX_ITEMS:
                break
        return track

    # --- input ------------------------------------------------------------------------------------

    def prime(self, blocks: Iterable[RawBlock]) -> None:
        """Take in older blocks for what opens a feed; nothing is published."""
        for block in blocks:
            file = self._files.get(block.kind)
            if file is not None and not file.height and block.height > file.history.height:
                self._keep(file, block)
                read = reading.read(block, file.users, self._faults)
                for track in self._followers(file, read.found):
                    _, items = self._items(track, read.found, self._faults)
                    track.items.extend(items)

    def apply(self, block: RawBlock) -> list[Envelope]:
        """The frames that one file's closed block makes, in order."""
        file = self._files.get(block.kind)
        if file is None:
            return []
        if block.height <= file.height:
            self._faults["old_block"] += 1
            return []
        if not file.height:
            before = block.height - 1 if block.previous is None else block.previous
            file.since = max(file.since, end_of(before))
            if file.history.height and file.history.height < before:
                self._forget(file)  # between the history and this block something may lie
        file.height = block.height
        if block.kind is not FileKind.STATUSES:
            self._keep(file, block)
        if not file.users:
            return []
        read = reading.read(block, file.users, self._faults)
        out: list[Envelope] = []
        for track in self._followers(file, read.found):
            last, items = self._items(track, read.found, self._faults)
            if items:
                track.items.extend(items)
                here = Position(block.height, last)
                before_here = max(track.position, file.since)
                track.position = here
                payload = _render(track.topic, items, is_snapshot=False)
                out.append(
                    self._envelope(track.topic, here, before_here, payload, times=read.times)
                )
        if self._mixed.users:
            heights = {kind: f.height for kind, f in self._files.items() if f.height}
            out += self._mixed.apply(
                block, read, heights=heights, since=self._since(), epoch=self.epoch
            )
        return out

    def lost(self, kind: FileKind, height: int) -> list[Envelope]:
        """Blocks of `kind` up to `height` are missing: the gaps of the topics they feed."""
        file = self._files.get(kind)
        if file is None or height < file.height:
            return []
        why, place = _LOST[kind].encode(), end_of(height)
        out: list[Envelope] = []
        for tracks in file.tracks.values():
            for track in tracks:
                before = max(track.position, file.since)
                track.position = place
                track.items.clear()
                out.append(self._envelope(track.topic, place, before, why, role=Role.GAP))
        since, reached = self._since(), file.height
        self._forget(file)
        file.height, file.since = height, place
        return out + self._mixed.lost(
            height, reached=reached, why=why, since=since, epoch=self.epoch
        )

    def _since(self) -> Position:
        return max(file.since for file in self._files.values())

    def _keep(self, file: _File, block: RawBlock) -> None:
        size = sum(map(len, block.lines))
        # An hour's funding of the whole market would be all the history there is.
        if size > self._history_bytes // 2 or all(b'"events":[]' in line for line in block.lines):
            return
        file.history.keep(block, size=size)

    def _forget(self, file: _File) -> None:
        file.history.clear()
        for tracks in file.tracks.values():
            for track in tracks:
                track.items.clear()

    # --- output -----------------------------------------------------------------------------------

    def snapshot(self, topic: Topic) -> Envelope:
        """What a late joiner gets: the last items known, or an empty payload where the feed has no
        opening frame. It stands at the end of the last block applied, and its `previous` is the
        last frame: from there on this worker tells everything, however long ago that was.
        """
        if topic.kind is Kind.USER_EVENTS:
            place = max(self._mixed.place(topic), self._since())
            if place == ORIGIN and not any(file.height for file in self._files.values()):
                return self._not_ready(topic)
            return self._envelope(topic, place, place, b"", role=Role.SNAPSHOT)
        recipe = _RECIPES[topic.kind]
        file = self._files[recipe.file]
        if not file.height:
            return self._not_ready(topic)
        track = self._tracks.get(topic) or self._begin(topic)
        told = max(track.position, file.since)
        if topic.kind not in ITEMS:
            return self._envelope(topic, told, told, b"", role=Role.SNAPSHOT)
        items: Sequence[bytes] = track.items
        if recipe.is_newest_first:
            items = list(reversed(items))
        payload = _render(topic, items, is_snapshot=True)
        return self._envelope(topic, end_of(file.height), told, payload, role=Role.SNAPSHOT)

    def _followers(self, file: _File, found: Iterable[Found]) -> list[_Track]:
        users = dict.fromkeys(event.user for event in found)
        return [track for user in users for track in file.tracks.get(user, ())]

    def _items(
        self, track: _Track, found: Iterable[Found], faults: Counter[str]
    ) -> tuple[int, list[bytes]]:
        """The last index used, and the items of the track's topic."""
        items: list[Any] = []
        last = 0
        for event in found:
            if event.user != track.topic.user:
                continue
            try:
                made = track.recipe.items(event)
            except _UNUSABLE:
                faults["bad_user_event"] += 1
                continue
            if made:
                last = event.index
                items += made
        if track.topic.aggregate and track.topic.kind is Kind.USER_FILLS and items:
            try:
                items = shapes.aggregated(items)
            except (*_UNUSABLE, ArithmeticError):
                faults["bad_user_event"] += 1
        return last, [orjson.dumps(item) for item in items]

    def _not_ready(self, topic: Topic) -> Envelope:
        return self._envelope(topic, ORIGIN, ORIGIN, NO_DATA.encode(), role=Role.NOT_READY)

    def _envelope(
        self,
        topic: Topic,
        position: Position,
        previous: Position,
        payload: bytes,
        /,
        *,
        role: Role = Role.UPDATE,
        times: Times = Times(),  # noqa: B008  # frozen
    ) -> Envelope:
        return Envelope(topic.name, self.epoch, position, previous, role, payload, times)


def _follow(file: _File, user: str) -> None:
    file.users[user] = file.users.get(user, 0) + 1


def _unfollow(file: _File, user: str) -> None:
    file.users[user] -= 1
    if not file.users[user]:
        del file.users[user]


def _render(topic: Topic, items: Iterable[bytes], *, is_snapshot: bool) -> bytes:
    """The feed's frame of these items. `orderUpdates` is a bare list; the others name the user."""
    joined = b",".join(items)
    if topic.kind is Kind.ORDER_UPDATES:
        return b'{"channel":"orderUpdates","data":[%b]}' % joined
    head = b'"isSnapshot":true,' if is_snapshot else b""
    return b'{"channel":"%b","data":{%b"user":"%b","%b":[%b]}}' % (
        topic.kind.value.encode(),
        head,
        topic.user.encode(),
        ITEMS[topic.kind].encode(),
        joined,
    )
