"""How much each topic says: messages and bytes, for estimates of what following it will cost.

The worker counts what it publishes, once for each envelope however many edges get it, and writes
once a minute. Two workers count the same envelopes, so a rate is what was counted divided by the
minutes in which somebody counted, which holds for one worker, for two, and for one that follows
another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from streaming.bus import keys
from streaming.bus.log import Command
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

FLUSH_S = 60.0
#: The last 24 hours and the one that runs.
KEEP_S = 25 * 3600
MINUTES = 24 * 60
#: Topics with a count of their own, per worker and hour; the rest of a kind count together as
#: `<kind> *`. 5,000 are about 1 MB of Redis an hour.
MAX_TOPICS = 5_000
OTHERS = "*"


class RateBook:
    """One worker's counts since the last minute."""

    def __init__(self, *, worker: str, clock: Callable[[], float] = time.time) -> None:
        self._worker = worker
        self._clock = clock
        self._counts: dict[str, list[int]] = {}
        self._hour = 0
        self._named: set[str] = set()  # topics with a count of their own in this hour

    def add(self, name: str, size_bytes: int) -> None:
        """Count one envelope of the topic."""
        count = self._counts.get(name)
        if count is None:
            self._counts[name] = [1, size_bytes]
        else:
            count[0] += 1
            count[1] += size_bytes

    def flush(self, leased: Iterable[str]) -> list[Command]:
        """What writes the minute that ends now, and begins the next.

        A leased topic that was silent counts as a minute of silence. Call it every `FLUSH_S`.
        """
        now_s = self._clock()
        hour = int(now_s // 3600)
        if hour != self._hour:
            self._hour, self._named = hour, set()
        counts, self._counts = self._counts, {}
        sums: dict[str, list[int]] = {}
        kinds: dict[str, list[int]] = {}
        for name in {*leased, *counts}:
            messages, size_bytes = counts.get(name, (0, 0))
            for book, field in ((sums, self._field(name)), (kinds, name.partition(" ")[0])):
                row = book.setdefault(field, [0, 0, 0])
                row[0] += messages
                row[1] += size_bytes
                row[2] += 1
        return self._commands(hour, sums, kinds) if sums else []

    async def run(self, client: redis.asyncio.Redis, leased: Callable[[], Iterable[str]]) -> None:
        """Write every minute until cancelled. What Redis does not take is lost: an estimate."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                async with client.pipeline(transaction=False) as pipe:
                    for command in self.flush(leased()):
                        pipe.execute_command(*command)
                    await pipe.execute()
            except (RedisError, OSError) as error:
                stop_if_cancelled()
                log.warning("rates_not_written", error=str(error))
            stop_if_cancelled()

    def _field(self, name: str) -> str:
        if name in self._named:
            return name
        if len(self._named) >= MAX_TOPICS:
            return f"{name.partition(' ')[0]} {OTHERS}"
        self._named.add(name)
        return name

    def _commands(
        self, hour: int, sums: dict[str, list[int]], kinds: dict[str, list[int]]
    ) -> list[Command]:
        key = keys.RATES.format(hour=hour, worker=self._worker)
        commands: list[Command] = [
            ("HINCRBY", key, f"{letter} {name}", units)
            for name, row in sums.items()
            for letter, units in zip("mbu", row, strict=True)
            if units
        ]
        minutes = keys.RATES_MINUTES.format(worker=self._worker)
        fields: list[str] = []
        for kind, (messages, size_bytes, _) in sorted(kinds.items()):
            fields += [kind, f"{messages} {size_bytes}"]
        return [
            *commands,
            ("EXPIRE", key, KEEP_S),
            ("XADD", minutes, "MAXLEN", MINUTES, "*", *fields),
            ("EXPIRE", minutes, KEEP_S),
            ("ZADD", keys.RATES_WORKERS, hour, self._worker),
            ("EXPIRE", keys.RATES_WORKERS, KEEP_S),
            ("ZREMRANGEBYSCORE", keys.RATES_WORKERS, 0, hour - 25),
        ]
