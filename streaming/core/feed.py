"""One topic at an edge: who follows it and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streaming.core import snapshots, tips
from streaming.core.counted import counted_of
from streaming.core.cursor import NODE_EPOCH_PREFIX
from streaming.core.envelope import LAST_INDEX, ORIGIN, Envelope, Position
from streaming.core.held import Held
from streaming.core.stretches import Stretches
from streaming.core.topic import Topic

if TYPE_CHECKING:
    from streaming.core.session import Session
    from streaming.core.streams import Stream

#: Epochs of public links that ended, remembered so that a straggler of one is known for it.
MAX_ENDED_EPOCHS = 8


class Feed:
    """One topic at this process. Everything up to `position` has been delivered."""

    __slots__ = (
        "asked_s", "counted", "counts", "covers", "down_s", "ended_epochs", "epoch", "files",
        "held", "idle_since_s",
        "is_overdue",
        "joined_at",
        "live", "looked_to", "lost_to", "name", "opening", "otherwise", "position", "reset_at",
        "rivals", "short", "snapshot", "streams", "teller", "told", "topic", "waiting",
        "watchers", "why_not",
    )  # fmt: skip

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.name = topic.name
        self.counted = counted_of(topic)  # what its frames count as
        self.files = tips.files_of(topic)
        self.opening = snapshots.opening_of(topic)
        # Followers in the official dialect (ordered sets), and those who wait for a snapshot:
        # whether they had one before, and what comes is one made again.
        self.live: dict[Session, None] = {}
        self.waiting: dict[Session, bool] = {}
        # Where such a follower's own snapshot stands, until the first update after it.
        self.joined_at: dict[Session, Position] = {}
        self.streams: dict[Stream, None] = {}  # followers in the relay dialect
        self.snapshot = snapshots.snapshot_for(topic)
        self.epoch = ""  # "": no sign of life yet
        self.position: Position = ORIGIN
        self.told: list[Position] = []  # what was delivered of the block at `position`
        self.teller = ""  # who told the last of it; "": the log
        # Who tells that block differently, and how far.
        self.rivals: set[str] = set()
        self.otherwise: Position = ORIGIN
        self.reset_at: Position = ORIGIN  # what was told up to here was said to be wrong
        self.short = Stretches()  # where what was told was said not to be all
        self.looked_to: Position = ORIGIN  # the log was asked for corrections up to here
        self.lost_to: Position = ORIGIN  # the end of the last hole that was declared
        self.held: Held | None = None  # a suspected hole
        # From where on each worker has told everything.
        self.covers: dict[str, Position] = {}
        self.ended_epochs: list[str] = []
        self.why_not: str | None = None  # nobody serves it now, and why
        self.down_s: float | None = None  # since when
        self.idle_since_s: float | None = None
        self.asked_s = -1.0  # when its snapshot was last asked for
        self.is_overdue = False  # somebody waited for a first frame at the last sweep already
        self.watchers: list[Callable[[], None]] = []  # called once, at the next sign of life
        self.counts: dict[int, int] = {}  # followers by tenant; kept here, for 1,000 follow BTC

    @property
    def reached(self) -> Position:
        """`position`, or how far another version of its block goes: what claims to follow that
        misses nothing."""
        is_of_this_block = self.otherwise.height == self.position.height
        return max(self.position, self.otherwise) if is_of_this_block else self.position

    @property
    def is_of_nodes(self) -> bool:
        """Whether it is made of node data now: places are block heights, and there are two to tell
        it."""
        return self.epoch.startswith(NODE_EPOCH_PREFIX)

    def is_rival(self, worker: str) -> bool:
        """Whether the worker tells the block at `position` differently, and there may be more of
        it."""
        return (
            worker in self.rivals
            and self.otherwise.height == self.position.height
            and self.position.index < LAST_INDEX
        )

    def differs(self, late: Envelope) -> bool:
        """Whether a frame at or before `position`, in its block, is of another version of it: not
        one of those delivered, or said to follow what it does not."""
        if not self.told or self.told[0].height != late.position.height:
            return False  # not known from its beginning
        return late.position not in self.told or any(
            late.previous < place < late.position for place in self.told
        )

    def note_rival(self, envelope: Envelope, worker: str) -> None:
        """The block at `position` is told differently, up to here."""
        if self.otherwise.height != self.position.height:
            self.rivals.clear()
            self.otherwise = ORIGIN
        if worker:
            self.rivals.add(worker)
        self.otherwise = max(self.otherwise, envelope.position)

    @property
    def is_followed(self) -> bool:
        """Whether anybody wants it."""
        return bool(self.live or self.waiting or self.streams)

    @property
    def tenants(self) -> tuple[int, ...]:
        """Whose followers there are, in order."""
        return tuple(sorted(self.counts))

    def joined(self, tenant_id: int) -> None:
        """Count a follower of this tenant; 0 is nobody's."""
        if tenant_id:
            self.counts[tenant_id] = self.counts.get(tenant_id, 0) + 1

    def left(self, tenant_id: int) -> None:
        """Count one less."""
        count = self.counts.pop(tenant_id, 0) - 1
        if count > 0:
            self.counts[tenant_id] = count

    def notify(self) -> None:
        """Tell those who wait for the topic's first sign of life."""
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher()

    def end_epoch(self) -> None:
        """The epoch of a public link is over. That of node data never is: nodes may be back."""
        self.lost_to = ORIGIN
        if self.is_of_nodes:
            return
        self.ended_epochs = [*self.ended_epochs[-MAX_ENDED_EPOCHS:], self.epoch]
