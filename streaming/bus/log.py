"""The replay log: what an event topic said lately, so that a customer who was away reads on.

One Redis Stream per topic, its entry ids the envelopes' places. Two workers append the same
envelopes; the second copy finds its place taken. A stream takes places in rising order only, so
what one worker lost and the other brings after a later entry goes into a second, short stream
beside it, and so does a copy that knows more about what came before it (a worker that has just
begun claims less than one that has run on). `log_reader.py` puts the two together.

RAM and no disk, by numbers. A trades frame of 0.3 KB takes 0.4 KB here, and BTC made 3.4 trades a
second in two recorded seconds: 5 MB an hour, 120 MB a day. Were all coins together ten times that,
a day of trades would be 1.2 GB, still RAM's business, and an hour of them 50 MB of the default 256
MiB. Order statuses of BTC alone are 7 MB/s of raw lines: 120 s are 840 MB and a day 600 GB, which
no spill of ours would make cheap; so the bulk class ends where its bytes do, and what is older is
the recorder's.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis.asyncio

from streaming.bus import keys
from streaming.bus.log_budget import LogBudget
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.topic import BULK_KINDS, STATE_KINDS, Kind

#: One Redis command, ready to be packed.
Command = tuple[str | bytes | int, ...]

NODE_EPOCH_PREFIX = "n-"
MIB = 1024 * 1024
#: What an entry costs Redis 7.0 beside its payload: measured 86 to 214 bytes for payloads up to 5
#: KB, 10 % of one of 60 KB.
OVERHEAD_BYTES = 160
#: How often the time to live of a leased topic's log is renewed, and how much longer than its
#: class keeps entries a log outlives its last renewal.
RENEW_S = 60.0
LINGER_S = 180
#: Entries in the stream beside a log. A worker's start brings one a topic; a worker that lost
#: blocks brings their events. A bulk entry can be 100 KB.
MAX_LATE = {"events": 4096, "bulk": 256}
#: How finely a log found at the start is spread over its time.
SLICES = 8

_TIMES = struct.Struct("<4q")


class LogClass(StrEnum):
    """Topics that are kept alike."""

    EVENTS = "events"
    BULK = "bulk"


_CLASS_OF = {
    kind.value: LogClass.BULK if kind in BULK_KINDS else LogClass.EVENTS
    for kind in Kind
    if kind not in STATE_KINDS
}


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How long entries are kept, in seconds of wall time, and how many bytes a class may take."""

    events_s: float = 3600.0
    events_bytes: int = 256 * MIB
    bulk_s: float = 120.0
    bulk_bytes: int = 256 * MIB

    def budget(self, log_class: LogClass) -> LogBudget:
        """An empty budget of the class."""
        if log_class is LogClass.EVENTS:
            return LogBudget(keep_s=self.events_s, max_bytes=self.events_bytes)
        return LogBudget(keep_s=self.bulk_s, max_bytes=self.bulk_bytes)


def log_class(name: str) -> LogClass | None:
    """The class of the topic called `name`; None when it has no log (a state, or no topic)."""
    return _CLASS_OF.get(name.partition(" ")[0])


def log_key(name: str, epoch: str = NODE_EPOCH_PREFIX) -> str:
    """The stream's name. All `n-` epochs share one, because their places are block heights."""
    if epoch.startswith(NODE_EPOCH_PREFIX):
        return keys.LOG.format(name=name)
    return keys.LOG_OF_EPOCH.format(epoch=epoch, name=name)


def entry_id(position: Position) -> str:
    """A place as a stream entry id."""
    return f"{position.height}-{position.index}"


def place(id_: bytes) -> Position:
    """The place in an entry id. Raises ValueError."""
    height, _, index = id_.partition(b"-")
    return Position(int(height), int(index))


def decode_entry(name: str, id_: bytes, fields: dict[bytes, bytes]) -> Envelope:
    """The envelope that was appended. Raises KeyError, ValueError or struct.error for what is not
    ours."""
    role = fields.get(b"r")
    return Envelope(
        name,
        fields[b"e"].decode(),
        place(fields.get(b"i", id_)),
        place(fields[b"v"]),
        Role.UPDATE if role is None else Role(int(role)),
        fields[b"p"],
        Times(*_TIMES.unpack(fields[b"t"])),
    )


# KEYS: the log, the stream beside it. ARGV: time to live and bound of the latter, then for each
# entry its id, previous, epoch, times, payload. Answers how many went into each. In the normal run
# a second worker's copies find their place taken by the very same claim. 11 µs of Redis for an
# entry against 1.2 µs for a bare XADD, which would lose what comes late; EVAL and not EVALSHA (7
# µs), because a restarted Redis knows no script.
_APPEND = """
local log, late, ttl, most = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local added, amended = 0, 0
local function less(a, b)
 local ah, ai = string.match(a, '(%d+)-(%d+)')
 local bh, bi = string.match(b, '(%d+)-(%d+)')
 if ah ~= bh then return tonumber(ah) < tonumber(bh) end
 return tonumber(ai) < tonumber(bi)
end
for i = 3, #ARGV, 5 do
 local id, v, e, t, p = ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4]
 local done = redis.pcall('XADD', log, id, 'v', v, 'e', e, 't', t, 'p', p)
 if type(done) ~= 'table' then added = added + 1
 elseif not string.find(done.err, 'equal or smaller', 1, true) then return done
 else
  local there = redis.call('XRANGE', log, id, id)[1]
  -- Of two claims that differ within one block, its own or the one before, both count: they go on
  -- from two versions of it.
  local block = string.match(v, '%d+')
  local other = there and v ~= there[2][2]
   and (block == string.match(id, '%d+') or block == string.match(there[2][2], '%d+'))
  if not there or other or less(v, there[2][2]) then
   redis.call('XADD', late, 'MAXLEN', '~', most, '*',
              'i', id, 'r', 0, 'v', v, 'e', e, 't', t, 'p', p)
   redis.call('EXPIRE', late, ttl)
   amended = amended + 1
  end
 end
end
return {added, amended}
"""


class LogWriter:
    """The worker's side: turns what it publishes into commands for the publisher's connection.

    The commands go before the message that publishes the same envelopes, on one connection, so
    what an edge has seen is in the log. Replies need no attention, except that an error (Redis is
    full) means the log has a hole, which every reader sees by the next entry's claim.
    """

    def __init__(
        self, *, limits: LogLimits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        limits = limits or LogLimits()
        self._clock = clock
        self._budgets = {each: limits.budget(each) for each in LogClass}
        self._renewed_s: dict[str, float] = {}  # by log: when its time to live was last set
        self._keys_of: dict[str, str] = {}  # by topic: the log it was last appended to

    def append(self, envelopes: Sequence[Envelope]) -> list[Command]:
        """The commands that log these envelopes; states and snapshots give none."""
        now_s = self._clock()
        by_key: dict[str, list[Envelope]] = {}
        commands: list[Command] = []
        for envelope in envelopes:
            kind = _CLASS_OF.get(envelope.topic.partition(" ")[0])
            if kind is None or envelope.position <= ORIGIN:
                continue
            key = log_key(envelope.topic, envelope.epoch)
            if envelope.role is Role.UPDATE:
                by_key.setdefault(key, []).append(envelope)
                self._budgets[kind].add(
                    key, envelope.position, size_bytes=_cost(envelope.payload), now_s=now_s
                )
            elif envelope.role in (Role.GAP, Role.RESET):
                commands.extend(self._declare(key, envelope))
        for key, entries in by_key.items():
            commands.append(self._entries(key, entries))
            self._keys_of[entries[0].topic] = key
            if key not in self._renewed_s:
                commands.append(self._renew(key, entries[0].topic, now_s))
        return commands

    def maintain(self, leased: Iterable[str]) -> list[Command]:
        """What keeps the logs within their bounds, and those of leased topics alive.

        Call it about once a second with the names of all leased topics. A log nobody renews ends
        by itself, also when every worker was killed.
        """
        now_s = self._clock()
        commands: list[Command] = []
        for budget in self._budgets.values():
            for key, first_kept in budget.overdue(now_s).items():
                commands.append(("XTRIM", key, "MINID", "~", entry_id(first_kept)))
        for name in leased:
            if log_class(name) is None:
                continue
            key = self._keys_of.get(name) or log_key(name)
            if now_s - self._renewed_s.get(key, 0.0) >= RENEW_S:
                commands.append(self._renew(key, name, now_s))
        for key in [k for k, at_s in self._renewed_s.items() if now_s - at_s > 2 * RENEW_S]:
            self._forget(key)
        return commands

    async def rebuild(self, client: redis.asyncio.Redis) -> int:
        """Take over the logs that are there, so that their bytes and ages count; returns how many.

        `client` must not decode responses. Raises RedisError.
        """
        now_s = self._clock()
        found: list[tuple[float, str, LogClass, Position, int]] = []
        seen = 0
        async for raw in client.scan_iter(match=keys.LOG.format(name="*"), count=1000):
            key = raw.decode()
            if (kind := _class_of_key(key)) is None:
                continue
            async with client.pipeline(transaction=False) as pipe:
                pipe.memory_usage(key)
                pipe.xrange(key, count=1)
                pipe.xrevrange(key, count=1)
                size_bytes, first, last = await pipe.execute()
            if size_bytes and first and last:
                seen += 1
                found.extend(
                    (at_s, key, kind, at, size_bytes // SLICES)
                    for at_s, at in _spread(first[0], last[0], now_s)
                )
        for at_s, key, kind, at, size in sorted(found, key=lambda slice_: slice_[0]):
            self._budgets[kind].add(key, at, size_bytes=size, now_s=at_s)
        return seen

    def state(self) -> dict[str, Any]:
        """Live figures for the heartbeat: bytes held and seconds covered, by class."""
        return {
            kind.value: {
                "bytes": budget.size_bytes,
                "max_bytes": budget.max_bytes,
                "span_s": round(budget.span_s),
            }
            for kind, budget in self._budgets.items()
        }

    def _entries(self, key: str, entries: list[Envelope]) -> Command:
        late = keys.LOG_LATE.format(log=key)
        words: list[str | bytes | int] = ["EVAL", _APPEND, 2, key, late]
        words += [self._ttl_s(entries[0].topic), _max_late(entries[0].topic)]
        for entry in entries:
            words += [
                entry_id(entry.position),
                entry_id(entry.previous),
                entry.epoch,
                _TIMES.pack(*_numbers(entry.times)),
                entry.payload,
            ]
        return tuple(words)

    def _declare(self, key: str, gap: Envelope) -> list[Command]:
        # Not in the log itself: the other worker may yet bring what this one lost.
        late = keys.LOG_LATE.format(log=key)
        words: tuple[str | bytes | int, ...] = (
            "i", entry_id(gap.position), "r", int(gap.role), "v", entry_id(gap.previous),
            "e", gap.epoch, "t", _TIMES.pack(*_numbers(gap.times)), "p", gap.payload,
        )  # fmt: skip
        return [
            ("XADD", late, "MAXLEN", "~", _max_late(gap.topic), "*", *words),
            ("EXPIRE", late, self._ttl_s(gap.topic)),
        ]

    def _renew(self, key: str, name: str, now_s: float) -> Command:
        self._renewed_s[key] = now_s
        return ("EXPIRE", key, self._ttl_s(name))

    def _ttl_s(self, name: str) -> int:
        kind = log_class(name)
        assert kind is not None  # noqa: S101  # only logged topics come here
        return int(self._budgets[kind].keep_s) + LINGER_S

    def _forget(self, key: str) -> None:
        del self._renewed_s[key]
        for name in [name for name, its in self._keys_of.items() if its == key]:
            del self._keys_of[name]


def _cost(payload: bytes) -> int:
    return OVERHEAD_BYTES + len(payload) + len(payload) // 16


def _numbers(times: Times) -> tuple[int, int, int, int]:
    return times.block_ns, times.node_ns, times.in_ns, times.out_ns


def _max_late(name: str) -> int:
    return MAX_LATE[log_class(name) or LogClass.EVENTS]


def _class_of_key(key: str) -> LogClass | None:
    name = key.removeprefix(keys.LOG.format(name=""))
    # Topic names hold no colon before their first blank; epochs end with one.
    return log_class(name) or log_class(name.partition(":")[2])


def _spread(first: Any, last: Any, now_s: float) -> list[tuple[float, Position]]:
    """`SLICES` points of (wall time, place) from a log's first entry to its last."""
    begin, end = place(first[0]), place(last[0])
    begin_s, end_s = (min(_written_s(fields, now_s), now_s) for _, fields in (first, last))
    points = []
    for number in range(1, SLICES):
        share = number / SLICES
        height = begin.height + int((end.height - begin.height) * share)
        points.append((begin_s + (end_s - begin_s) * share, Position(height, 0)))
    return [*points, (end_s, end)]


def _written_s(fields: dict[bytes, bytes], now_s: float) -> float:
    try:
        times = Times(*_TIMES.unpack(fields[b"t"]))
    except (KeyError, struct.error):
        return now_s
    return (times.out_ns or times.in_ns or times.block_ns) / 1e9 or now_s
