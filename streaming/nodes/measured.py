"""What topics said in the last 24 hours, of many at once: what estimates are made of.

The counts are the workers' own (`bus/rates.py`). Several workers count the same, so a rate is what
was counted divided by the minutes in which somebody counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from streaming.bus import keys
from streaming.core.topic import Kind, Topic
from streaming.nodes import live

HOURS = 24
MINUTES = 60 * HOURS
#: Of one question; each costs a field of each hour and worker.
MAX_TOPICS = 2_000


class Measured(NamedTuple):
    """Sums over workers: messages, bytes, and the topic-minutes they are of (0: nothing is known);
    `covered` are minutes of the last 24 hours, at most 1,440, in which it was followed at all."""

    messages: int
    size_bytes: int
    minutes: int
    covered: int

    @property
    def messages_per_hour(self) -> Fraction:
        """Of one topic, on average; 0 where nothing is known."""
        return Fraction(60 * self.messages, self.minutes) if self.minutes else Fraction(0)

    @property
    def bytes_per_hour(self) -> Fraction:
        """The same of payload bytes."""
        return Fraction(60 * self.size_bytes, self.minutes) if self.minutes else Fraction(0)


def measured(topics: Collection[Topic], *, now_s: float | None = None) -> dict[Topic, Measured]:
    """Each topic. One round trip. Raises live.Unreachable."""
    asked = list(dict.fromkeys(topics))[:MAX_TOPICS]
    if not asked:
        return {}
    fields = [f"{letter} {topic.name}" for topic in asked for letter in "mbu"]
    with live.bus() as client:
        workers = _workers(client)
        with client.pipeline(transaction=False) as pipe:
            for worker in workers:
                for key in _hours_of(worker, now_s):
                    pipe.hmget(key, fields)
            answers = pipe.execute()
    found = {}
    for n, topic in enumerate(asked):
        rows = [tuple(int(units or 0) for units in one[3 * n : 3 * n + 3]) for one in answers]
        found[topic] = _sum(rows, of_each=HOURS + 1)
    return found


def measured_kinds(kinds: Collection[Kind], *, now_s: float | None = None) -> dict[Kind, Measured]:
    """The average topic of each kind, over all that were followed. Reads whole hours: some 100 ms
    where thousands of topics are followed. Raises live.Unreachable."""
    if not kinds:
        return {}
    with live.bus() as client:
        workers = _workers(client)
        with client.pipeline(transaction=False) as pipe:
            for worker in workers:
                for key in _hours_of(worker, now_s):
                    pipe.hgetall(key)
            answers = pipe.execute()
    sums = [_by_kind(counts) for counts in answers]
    found = {}
    for kind in dict.fromkeys(kinds):
        rows = [tuple(one[letter, kind.value] for letter in "mbu") for one in sums]
        found[kind] = _sum(rows, of_each=HOURS + 1)
    return found


def _workers(client: Any) -> list[str]:
    return [worker.decode() for worker in client.zrange(keys.RATES_WORKERS, 0, -1)]


def _hours_of(worker: str, now_s: float | None) -> Iterable[str]:
    hour = int((time.time() if now_s is None else now_s) // 3600)
    return [keys.RATES.format(hour=hour - back, worker=worker) for back in range(HOURS + 1)]


def _by_kind(counts: dict[bytes, bytes]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for field, units in counts.items():
        letter, _, name = field.decode().partition(" ")
        found[letter, name.partition(" ")[0]] += int(units)
    return found


def _sum(rows: list[tuple[int, ...]], *, of_each: int) -> Measured:
    messages, size_bytes, minutes = (sum(row[place] for row in rows) for place in range(3))
    # Of an hour what the worker says that followed it longest: two at once are not two hours.
    by_hour = [
        min(60, max((row[2] for row in rows[back::of_each]), default=0)) for back in range(of_each)
    ]
    return Measured(messages, size_bytes, minutes, min(MINUTES, sum(by_hour)))
