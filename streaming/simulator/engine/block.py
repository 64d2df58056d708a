"""What one block did, in the words of the node's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

Fill = tuple[str, dict[str, object]]
Event = dict[str, object]


class Stream(StrEnum):
    """A kind of node file, by the stem of its directory name."""

    FILLS = "node_fills"
    DIFFS = "node_raw_book_diffs"
    STATUSES = "node_order_statuses"
    MISC = "misc_events"
    TWAPS = "node_twap_statuses"
    SYSTEM = "system_and_core_writer_actions"
    ORACLE = "hip3_oracle_updates"


@dataclass(slots=True)
class Block:
    """One block's events. `fills` holds `(user, fill)`, buyer before seller; `trades` is the public
    view of the same.

    `journal` is the order in which things happened, as (stream, index into that stream's list):
    what a node that writes as it processes would write. `actions` are the orders and
    cancels that users sent, as `(user, action)` in the exchange's wire form.
    """

    height: int
    time_ns: int
    fills: list[Fill] = field(default_factory=list)
    diffs: list[Event] = field(default_factory=list)
    statuses: list[Event] = field(default_factory=list)
    misc: list[Event] = field(default_factory=list)
    twaps: list[Event] = field(default_factory=list)
    system: list[Event] = field(default_factory=list)
    oracle: list[Event] = field(default_factory=list)
    trades: dict[str, list[Event]] = field(default_factory=dict)
    journal: list[tuple[Stream, int]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    actions: list[tuple[str, Event]] = field(default_factory=list)

    @property
    def time_ms(self) -> int:
        """Block time in whole milliseconds, as the public API prints it."""
        return self.time_ns // 1_000_000

    def events(self, stream: Stream) -> list[Fill] | list[Event]:
        """All events of one stream, in order."""
        match stream:
            case Stream.FILLS:
                return self.fills
            case Stream.DIFFS:
                return self.diffs
            case Stream.STATUSES:
                return self.statuses
            case Stream.MISC:
                return self.misc
            case Stream.TWAPS:
                return self.twaps
            case Stream.SYSTEM:
                return self.system
            case Stream.ORACLE:
                return self.oracle

    def add_fills(self, buyer: Fill, seller: Fill) -> None:
        """Record both sides of one trade."""
        for side in (buyer, seller):
            self.journal.append((Stream.FILLS, len(self.fills)))
            self.fills.append(side)

    def add_diff(self, diff: Event) -> None:
        """Record one change of one resting order."""
        self.journal.append((Stream.DIFFS, len(self.diffs)))
        self.diffs.append(diff)

    def add_status(self, status: Event) -> None:
        """Record one order status."""
        self.journal.append((Stream.STATUSES, len(self.statuses)))
        self.statuses.append(status)

    def add_rare(self, stream: Stream, event: Event) -> None:
        """Record an event of one of the streams with little in them: ledger, TWAPs, system actions,
        oracle prices. Raises ValueError for the others.
        """
        rare = {
            Stream.MISC: self.misc,
            Stream.TWAPS: self.twaps,
            Stream.SYSTEM: self.system,
            Stream.ORACLE: self.oracle,
        }.get(stream)
        if rare is None:
            raise ValueError(f"{stream} has a method of its own")
        self.journal.append((stream, len(rare)))
        rare.append(event)


def iso_ns(time_ns: int) -> str:
    """UTC with nine decimals and no zone, as node files print times."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, second = divmod(rest, 60)
    return f"{_date(days)}T{hours:02d}:{minutes:02d}:{second:02d}.{nanos:09d}"


def _date(days: int) -> str:
    """ISO date of a day counted from 1970-01-01. Source: H. Hinnant, `civil_from_days`."""
    if days not in _DATES:
        z = days + 719_468
        era, doe = divmod(z, 146_097)
        yoe = (doe - doe // 1_460 + doe // 36_524 - doe // 146_096) // 365
        doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
        mp = (5 * doy + 2) // 153
        month = mp + 3 if mp < 10 else mp - 9
        year = yoe + era * 400 + (month <= 2)
        _DATES[days] = f"{year:04d}-{month:02d}-{doy - (153 * mp + 2) // 5 + 1:02d}"
    return _DATES[days]


_DATES: dict[int, str] = {}  # one entry a simulated day
