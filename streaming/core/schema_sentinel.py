"""Notices when the exchange changes: a channel, a field or a cadence that was never seen.

It judges nothing and holds nothing back: frames pass whatever it finds. Each finding is told once.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from streaming.core.schema_baseline import CADENCES_S, FIELDS

#: Below this depth a frame is data rather than schema.
MAX_DEPTH = 5
#: What one upstream may tell us at most: a garbled one makes a new name with every frame.
MAX_FINDINGS = 1_000
#: Intervals from which a cadence is told, and topics whose cadence is followed.
CADENCE_SAMPLES = 16
MAX_CADENCES = 1_000
#: A push clock wanders by a tenth (5.0 to 5.6 s); a changed one was ten times slower.
CADENCE_FACTOR = 3.0
#: Any object below such a path is a map by coin, not a list of fields.
ANY = "*"
#: A path that ends so may be of any type.
EITHER = "|"


_EVERY = re.compile(r"every ([\d.e+-]+) s")


class Change(StrEnum):
    """What is new."""

    CHANNEL = "channel"
    FIELD = "field"
    TYPE = "type"
    CADENCE = "cadence"


class Finding(NamedTuple):
    """Something never seen before; `detail` is one line for an operator. A sentinel's are text that
    can be written anywhere, whatever stood in the frame.
    """

    change: Change
    channel: str
    detail: str

    @property
    def key(self) -> str:
        """The same for whoever finds the same. A cadence is measured a little differently each
        time: one of three times the length is another.
        """
        match = _EVERY.search(self.detail) if self.change is Change.CADENCE else None
        if match is None:
            return f"{self.change} {self.channel} {self.detail}"
        return f"{self.change} {self.channel} {round(math.log(float(match[1]), CADENCE_FACTOR))}"


class SchemaSentinel:
    """Compares frames with a baseline, and learns from what it finds so that it says it once.

    `fields` gives the known paths by channel (`levels[].px`; a path that ends in `*` allows
    anything below), `cadences_s` the known intervals between two frames of one topic.
    """

    def __init__(
        self,
        *,
        fields: Mapping[str, frozenset[str]] = FIELDS,
        cadences_s: Mapping[str, tuple[float, ...]] = CADENCES_S,
    ) -> None:
        self._fields = {channel: set(paths) for channel, paths in fields.items()}
        self._cadences_s = {channel: list(known) for channel, known in cadences_s.items()}
        self._types: dict[tuple[str, str], str] = {}
        self._heard: dict[tuple[str, str], deque[int]] = {}
        self._paces: dict[str, list[float]] = {}
        self._findings: list[Finding] = []
        self._told = 0

    def drain(self) -> list[Finding]:
        """What was found since the last call."""
        findings, self._findings = self._findings, []
        return findings

    def observe(self, channel: str, data: Any, *, now_ns: int) -> None:
        """Look at one frame. Never raises."""
        known = self._fields.get(channel)
        if known is None:
            if self._told < MAX_FINDINGS:
                known = self._fields[channel] = set()
                self._tell(Change.CHANNEL, channel, f"channel {channel[:60]!r} was never seen")
                # The channel is the news; its fields are only learned.
                known.update(path for path, _ in _paths(data, known))
            return
        for path, value in _paths(data, known):
            self._field(channel, known, path, value)
        if channel in self._cadences_s:
            self._cadence(channel, data, now_ns)

    def pace(self, channel: str, every_s: float) -> None:
        """One more interval of `channel`, from somebody who can tell it from two samples. The first
        cadence of a channel without a known one is taken for granted.
        """
        intervals = self._paces.setdefault(channel, [])
        intervals.append(every_s)
        if len(intervals) >= CADENCE_SAMPLES:
            self._judge(channel, median(intervals))
            intervals.clear()

    def _field(self, channel: str, known: set[str], path: str, value: Any) -> None:
        if path not in known:
            if self._told >= MAX_FINDINGS:
                return
            known.add(path)
            self._tell(Change.FIELD, channel, f"field {path[:120]} was never seen")
        kind = _kind(value)
        if kind == "null" or f"{path}{EITHER}" in known:
            return
        before = self._types.setdefault((channel, path), kind)
        if before != kind and (channel, f"{path}:{kind}") not in self._types:
            self._types[channel, f"{path}:{kind}"] = kind
            self._tell(Change.TYPE, channel, f"field {path[:120]} is {kind}, and was {before}")

    def _cadence(self, channel: str, data: Any, now_ns: int) -> None:
        times = self._heard.get(topic := (channel, _topic(data)))
        if times is None:
            if len(self._heard) >= MAX_CADENCES:
                return
            times = self._heard[topic] = deque(maxlen=CADENCE_SAMPLES + 1)
        times.append(now_ns)
        if len(times) <= CADENCE_SAMPLES:
            return
        heard = list(times)
        times.clear()
        self._judge(channel, median(b - a for a, b in pairwise(heard)) / 1e9)

    def _judge(self, channel: str, typical_s: float) -> None:
        if typical_s <= 0:
            return
        known = self._cadences_s.setdefault(channel, [typical_s])
        if any(each / CADENCE_FACTOR <= typical_s <= each * CADENCE_FACTOR for each in known):
            return
        usual = ", ".join(f"{each:g} s" for each in known)
        known.append(typical_s)
        self._tell(Change.CADENCE, channel, f"comes every {typical_s:.3g} s; known is {usual}")

    def _tell(self, change: Change, channel: str, detail: str) -> None:
        if self._told < MAX_FINDINGS:
            self._told += 1
            self._findings.append(Finding(change, _clean(channel[:60]), _clean(detail)))


def _clean(text: str) -> str:
    """One line that UTF-8 can hold: JSON may name half a surrogate pair, or a line end."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _topic(data: Any) -> str:
    """What tells two topics of one channel apart where their cadences differ."""
    if not isinstance(data, dict):
        return ""
    names = (data.get(key) for key in ("coin", "s", "i", "user", "dex"))
    fast = "fast" if data.get("fast") is True else ""
    return " ".join([*(name for name in names if isinstance(name, str)), fast])


def _paths(data: Any, known: set[str], path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if f"{path}{ANY}" in known or depth > MAX_DEPTH:
        return
    if isinstance(data, dict):
        for key, value in data.items():
            below = f"{path}.{key}" if path else key
            yield below, value
            yield from _paths(value, known, below, depth + 1)
    elif isinstance(data, list):
        # Items of a list are alike: the first and the last one stand for all.
        for item in data[:1] + data[1:][-1:]:
            yield from _paths(item, known, f"{path}[]", depth + 1)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
