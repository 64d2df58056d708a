"""Compares what a customer got with what truly happened. Pure; nothing here knows the relay.

A claim of "nothing lost" is the oracle's alone: the absence of errors proves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.support.pristine import Event

MS = 1_000_000
_ENDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Got:
    """One event as it reached the customer; `at_ns` by the wall clock."""

    key: str
    digest: str
    at_ns: int = 0
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """A `gap` frame: what lies in heights `first` … `last`, both included, may be missing. `last`
    None: up to the next event that came."""

    first: int
    last: int | None
    at_ns: int = 0

    @property
    def end(self) -> int:
        """`last`, or a height above all others."""
        return _ENDLESS if self.last is None else self.last


Record = Got | Marker


@dataclass(slots=True)
class Verdict:
    """What is wrong with one customer's stream; `is_clean` when nothing is.

    `missing` is what no marker covers; `explained` is missing too, but the customer was told.
    `unknown` came but never happened; `corrupted` came with another content. `idle_markers` cover
    nothing that is missing; `late_markers` came after something behind their range.
    `lateness_ns` is, event by event in order, how long after the pristine node's write it came.
    """

    expected: int = 0
    missing: list[Event] = field(default_factory=list)
    explained: list[Event] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    markers: list[Marker] = field(default_factory=list)
    idle_markers: list[Marker] = field(default_factory=list)
    late_markers: list[Marker] = field(default_factory=list)
    doubly_marked: list[Event] = field(default_factory=list)
    lateness_ns: list[int] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Every event once, in order, as it was, and no marker."""
        return self.is_clean and not self.explained and not self.markers

    @property
    def is_clean(self) -> bool:
        """Nothing wrong that the customer was not told of, and told right."""
        return not any(
            (
                self.missing,
                self.duplicate,
                self.reordered,
                self.corrupted,
                self.unknown,
                self.idle_markers,
                self.late_markers,
                self.doubly_marked,
            )
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many of each, for a report."""
        return {
            "expected": self.expected,
            "missing": len(self.missing),
            "explained": len(self.explained),
            "duplicate": len(self.duplicate),
            "reordered": len(self.reordered),
            "corrupted": len(self.corrupted),
            "unknown": len(self.unknown),
            "markers": len(self.markers),
            "idle_markers": len(self.idle_markers),
            "late_markers": len(self.late_markers),
            "doubly_marked": len(self.doubly_marked),
        }

    @property
    def extra_gap_ms(self) -> float:
        """The longest a customer waited for an event beyond the time the chain took to make it."""
        late = self.lateness_ns
        steps = (after - before for before, after in itertools.pairwise(late))
        return max(steps, default=0) / MS

    def lateness_ms(self, percent: float) -> float:
        """The lateness below which `percent` of the events came."""
        ordered = sorted(self.lateness_ns)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] / MS


def judge(
    expected: Sequence[Event],
    got: Iterable[Record],
    *,
    until: int,
    after: int = 0,
    lost: Sequence[tuple[int, int]] = (),
) -> Verdict:
    """The verdict on heights `after` < height ≤ `until` of one stream.

    With `after` 0 the stream counts from the first event that came: a new follower is owed nothing
    from before, and may get a little of it (the last trades). What came from outside the heights is
    checked for content and order, and not missed. `lost` are the ranges (first, last) that no node
    has: a marker there is right, also for a stream in which nothing happened meanwhile.
    """
    places = {event.key: place for place, event in enumerate(expected)}
    records = _ended(list(got), expected, places)
    verdict = Verdict(markers=[record for record in records if isinstance(record, Marker)])
    seen = _read(records, expected, places, verdict)
    begin = _first_owed(expected, seen, after)
    owed = [event for event in expected[begin:] if after < event.height <= until]
    verdict.expected = len(owed)
    missing = [event for event in owed if places[event.key] not in seen]
    _explain(missing, verdict)
    verdict.idle_markers = [
        marker
        for marker in verdict.idle_markers
        if not any(first <= marker.end and marker.first <= last for first, last in lost)
    ]
    verdict.lateness_ns = [
        at_ns - expected[place].made_ns
        for place, at_ns in sorted(seen.items())
        if place >= begin and expected[place].made_ns and at_ns
    ]
    return verdict


def _ended(
    records: list[Record], expected: Sequence[Event], places: dict[str, int]
) -> list[Record]:
    """The records with the end of each marker that goes up to the next event."""
    heights = [
        expected[places[r.key]].height if isinstance(r, Got) and r.key in places else None
        for r in records
    ]
    ended: list[Record] = []
    for number, record in enumerate(records):
        if isinstance(record, Marker) and record.last is None:
            behind = (h for h in heights[number:] if h is not None and h >= record.first)
            # With that block: the last 30 trades, which may come next, begin anywhere in one.
            record = Marker(record.first, next(behind, _ENDLESS), record.at_ns)
            if record.end < record.first:
                continue  # nothing lies between: it said no more than "from here on"
        ended.append(record)
    return ended


def _read(
    records: list[Record], expected: Sequence[Event], places: dict[str, int], verdict: Verdict
) -> dict[int, int]:
    """Go through what came, in order; returns the places seen and when."""
    seen: dict[int, int] = {}
    furthest, highest = -1, 0
    for record in records:
        if isinstance(record, Marker):
            if highest > record.end:
                verdict.late_markers.append(record)
            continue
        place = places.get(record.key)
        if place is None:
            verdict.unknown.append(record.key)
            continue
        if record.digest != expected[place].digest:
            verdict.corrupted.append(record.key)
        if place in seen:
            verdict.duplicate.append(record.key)
            continue
        # A replay after a declared gap fills in what is behind; it says so.
        if place < furthest and not record.is_replay:
            verdict.reordered.append(record.key)
        seen[place] = 0 if record.is_replay else record.at_ns
        furthest = max(furthest, place)
        highest = max(highest, expected[place].height)
    return seen


def _first_owed(expected: Sequence[Event], seen: dict[int, int], after: int) -> int:
    if after:
        return 0
    return min(seen, default=len(expected))


def _explain(missing: list[Event], verdict: Verdict) -> None:
    covering: dict[Marker, int] = dict.fromkeys(verdict.markers, 0)
    for event in missing:
        covers = [m for m in verdict.markers if m.first <= event.height <= m.end]
        for marker in covers:
            covering[marker] += 1
        (verdict.explained if covers else verdict.missing).append(event)
        if len(covers) > 1:
            verdict.doubly_marked.append(event)
    verdict.idle_markers = [marker for marker, count in covering.items() if not count]


def histogram(values_ms: Iterable[float]) -> dict[str, int]:
    """How many of `values_ms` are at most 1, 2, 5, 10, … 10,000 ms."""
    bounds = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
    counts = dict.fromkeys([*map(str, bounds), "more"], 0)
    for value in values_ms:
        name = next((str(bound) for bound in bounds if value <= bound), "more")
        counts[name] += 1
    return counts
