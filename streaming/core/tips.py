"""How far a worker has come, by kind of file: the newest block of one kind says nothing of another.

Silence about a topic proves that nothing was there only when the files it is made of have gone
past; and a book whose changes stopped is old although the fills go on.
"""

from __future__ import annotations

from streaming.core.blocks import MARKET_KINDS, FileKind, RawBlock
from streaming.core.topic import Kind, Topic

#: Where a kind's height stands in `Tips.heights` and so on the wire: new kinds go to the end.
KINDS = tuple(FileKind)
_PLACE = {kind: place for place, kind in enumerate(KINDS)}
#: The files each kind of topic is made of.
_FILES: dict[Kind, tuple[FileKind, ...]] = {
    **dict.fromkeys((Kind.L2_BOOK, Kind.BBO, Kind.ALL_MIDS, Kind.L2_DIFF), (FileKind.DIFFS,)),
    **dict.fromkeys((Kind.L4_BOOK, Kind.L4_DIFF), (FileKind.DIFFS, FileKind.STATUSES)),
    **dict.fromkeys(
        (Kind.TRADES, Kind.CANDLE, Kind.USER_FILLS, Kind.USER_TWAP_SLICE_FILLS), (FileKind.FILLS,)
    ),
    **dict.fromkeys((Kind.ORDER_UPDATES, Kind.USER_HISTORICAL_ORDERS), (FileKind.STATUSES,)),
    **dict.fromkeys((Kind.USER_FUNDINGS, Kind.USER_LEDGER), (FileKind.MISC,)),
    Kind.USER_TWAP_HISTORY: (FileKind.TWAP,),
    Kind.USER_EVENTS: (FileKind.FILLS, FileKind.STATUSES, FileKind.MISC, FileKind.TWAP),
}
#: Files that hold no line for an empty block do not say that they are past it. So far behind the
#: others (0.6 s) such a kind is taken to be quiet. The edge waits a second at a suspected hole:
#: with the 3 blocks it allows besides, that is decided in time.
QUIET_BLOCKS = 8
#: Behind the other kinds by this much a kind has stopped: 2 s where every block has a line, as late
#: as a healthy recorded node was; 7 s where a pause may be a quiet market.
STOPPED_BLOCKS = 30
STOPPED_QUIET_BLOCKS = 100
#: Without lines for empty blocks there may be no trade anywhere for a while, but orders come and
#: go.
_BUSY = (FileKind.STATUSES, FileKind.DIFFS)


def kinds_of(topic: Topic) -> tuple[FileKind, ...]:
    """The files the topic is made of; none for what is not made of node files."""
    if topic.kind is Kind.RAW:
        return tuple(kind for kind in KINDS if kind == topic.stream)
    return _FILES.get(topic.kind, ())


def files_of(topic: Topic) -> tuple[int, ...]:
    """The places in `Tips.heights` of the files the topic is made of."""
    return tuple(_PLACE[kind] for kind in kinds_of(topic))


def tip_of(heights: tuple[int, ...], files: tuple[int, ...]) -> int:
    """Up to where all of `files` are told, but for those that no node writes; 0 when none is."""
    found = [heights[place] for place in files if place < len(heights) and heights[place]]
    return min(found, default=0)


class Tips:
    """The highest block handed on, in all and by kind.

    Whether the files hold a line for every block (`_by_block`) is learned: only there does an empty
    block show, and nowhere else does a reader vouch for a step over one. A kind that stepped over
    one has no such lines until it shows an empty one itself. And of two nodes of both modes the one
    that writes them may die: they are not counted on when none of any kind came for
    `STOPPED_BLOCKS`.
    """

    def __init__(self) -> None:
        self.top = 0
        self._own = [0] * len(KINDS)
        self._empty_at = -STOPPED_BLOCKS - 1  # the newest block without events of any kind
        self._steps = [False] * len(KINDS)  # over empty blocks

    def note(self, block: RawBlock) -> None:
        """A block was handed on."""
        height, place = block.height, _PLACE[block.kind]
        if block.previous is not None and block.previous < height - 1:
            self._steps[place] = True
        if len(block.lines) == 1 and block.lines[0].endswith(b'"events":[]}'):
            self._steps[place] = False
            self._empty_at = max(self._empty_at, height)
        if height > self._own[place]:
            self._own[place] = height
            self.top = max(self.top, height)

    @property
    def heights(self) -> tuple[int, ...]:
        """Up to where each of `KINDS` is told; 0 for a kind of which nothing was seen."""
        quiet = self.top - QUIET_BLOCKS
        if self._shows_empty:
            return tuple(
                own and (max(own, quiet) if steps else own)
                for own, steps in zip(self._own, self._steps, strict=True)
            )
        return tuple(own and max(own, quiet) for own in self._own)

    @property
    def stopped(self) -> frozenset[FileKind]:
        """The kinds that were there, and no longer are while others go on."""
        return frozenset(kind for kind in MARKET_KINDS if self._has_stopped(kind))

    def _has_stopped(self, kind: FileKind) -> bool:
        place = _PLACE[kind]
        own = self._own[place]
        if self._shows_empty and not self._steps[place]:
            return 0 < own < self.top - STOPPED_BLOCKS
        return kind in _BUSY and 0 < own < self.top - STOPPED_QUIET_BLOCKS

    @property
    def _shows_empty(self) -> bool:
        return self._empty_at >= self.top - STOPPED_BLOCKS
