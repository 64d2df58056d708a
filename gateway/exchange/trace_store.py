"""Traces in Redis: of a day, within a number of bytes that tenants share evenly, so that nobody's
orders push out another's.

A tenant has a hash (id → trace), a sorted set of the ids, its bytes, histograms by the hour and
counts of warnings by the day. What is over its share goes, oldest first, whenever it writes; those
that write no more are looked at in turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.exchange import trace as traces
from gateway.exchange.trace import Trace

KEPT_MS = 24 * 3_600_000
HOUR_MS = 3_600_000
#: With fewer tenants a share is still that of so many: one alone must not begin with everything.
LEAST_SHARES = 4
#: What an entry costs in Redis beside its bytes: a field, a member of the set, allocation.
ENTRY_BYTES = 200
#: A follower that said nothing for so long is gone.
FOLLOWER_S = 20
#: Tenants that write no more, looked at with each write.
SWEPT = 5

TENANTS = "relay:traces"
FOLLOWER = "relay:traces:follower:{process}"
_ROWS, _IDS, _BYTES = "relay:trace:{0}:rows", "relay:trace:{0}:ids", "relay:trace:{0}:bytes"
_TIMES = "relay:trace:{tenant}:ms:{hour}"
_WARNED = "relay:trace:{tenant}:warned:{hour}"

# KEYS: rows, ids, bytes. ARGV: the share in bytes, the first id that is kept, what an entry costs,
# how long all is kept, then id, trace and whether it is new, each.
_PUT = """
local size = tonumber(redis.call('GET', KEYS[3]) or '0')
for i = 5, #ARGV, 3 do
  local old = redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if old > 0 or ARGV[i + 2] == '1' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    size = size + #ARGV[i + 1] - old
    if old == 0 then
      redis.call('ZADD', KEYS[2], 0, ARGV[i])
      size = size + ARGV[3]
    end
  end
end
for _ = 1, 2000 do
  local first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not first then size = 0 break end
  if size <= tonumber(ARGV[1]) and first >= ARGV[2] then break end
  size = size - redis.call('HSTRLEN', KEYS[1], first) - ARGV[3]
  redis.call('HDEL', KEYS[1], first)
  redis.call('ZREM', KEYS[2], first)
end
redis.call('SET', KEYS[3], size, 'EX', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return size
"""


def keys_of(tenant_id: int) -> tuple[str, str, str]:
    """Rows, ids, bytes."""
    return _ROWS.format(tenant_id), _IDS.format(tenant_id), _BYTES.format(tenant_id)


def times_key(tenant_id: int, hour: int) -> str:
    """Histograms of an hour since 1970, by `step:bucket`."""
    return _TIMES.format(tenant=tenant_id, hour=hour)


def warned_key(tenant_id: int, hour: int) -> str:
    """Counts of warnings of an hour, by `key id:code`."""
    return _WARNED.format(tenant=tenant_id, hour=hour)


@dataclass(slots=True)
class Batch:
    """What one tenant's traces changed since the last write; `new` are the ids of new ones."""

    rows: dict[str, Trace] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    times: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)


class TraceStore:
    """The writing side, of one process. Every call raises redis.RedisError, OSError or
    TimeoutError."""

    def __init__(self, url: str, *, max_bytes: int, process: str) -> None:
        self._max_bytes = max_bytes
        self._process = process
        self._tenants = LEAST_SHARES
        self._swept = 0
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=2.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )
        self._put = self._redis.register_script(_PUT)

    async def write(self, batches: Mapping[int, Batch], *, now_ms: float) -> None:
        """Write what changed, by tenant, and let go of what is too much or too old."""
        share = self._max_bytes // max(LEAST_SHARES, self._tenants)
        hour = int(now_ms // HOUR_MS)
        kept_s = KEPT_MS // 1000 + 3600
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(TENANTS, 0, now_ms - KEPT_MS)
            for tenant_id, batch in batches.items():
                if batch.new:
                    pipe.zadd(TENANTS, {str(tenant_id): now_ms})
                for name, counts in (
                    (times_key(tenant_id, hour), batch.times),
                    (warned_key(tenant_id, hour), batch.warned),
                ):
                    for label, count in counts.items():
                        pipe.hincrby(name, label, count)
                    if counts:
                        pipe.expire(name, kept_s)
            pipe.set(FOLLOWER.format(process=self._process), b"1", ex=FOLLOWER_S)
            pipe.zcard(TENANTS)
            pipe.zrange(TENANTS, self._swept, self._swept + SWEPT - 1)
            *_, self._tenants, others = await pipe.execute()
        self._swept = self._swept + SWEPT if others else 0
        for batch in batches.values():
            # Added up already: what fails from here on is written again, and must not count twice.
            batch.times.clear()
            batch.warned.clear()
        for tenant_id in dict.fromkeys([*batches, *map(int, others)]):
            batch = batches.get(tenant_id, Batch())
            arguments: list[Any] = [share, traces.first_id(now_ms - KEPT_MS), ENTRY_BYTES, kept_s]
            for id_, trace in batch.rows.items():
                arguments += [id_, traces.encode(trace), int(id_ in batch.new)]
            await self._put(keys=keys_of(tenant_id), args=arguments)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class TraceReader:
    """The reading side, for pages and the API. Raises redis.RedisError or OSError."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=1.0)

    def page(self, tenant_id: int, *, before: str, since: str, count: int) -> list[Trace]:
        """Traces with ids from `since` to just before `before` ("": the newest), newest first."""
        rows, ids, _ = keys_of(tenant_id)
        newest = f"({before}" if before else "+"
        found = self._redis.zrevrangebylex(ids, newest, f"[{since}", 0, count)
        if not found:
            return []
        data: list[Any] = self._redis.hmget(rows, found)
        return [traces.decode(one) for one in data if one is not None]

    def tenants(self, *, since_ms: float, count: int) -> list[int]:
        """Ids of tenants whose last trace came since then, the newest first."""
        found: list[Any] = self._redis.zrevrangebyscore(TENANTS, "+inf", since_ms, 0, count)
        return [int(one) for one in found]

    def living(self, processes: Sequence[str]) -> set[str]:
        """Those of the followers that are still there."""
        if not processes:
            return set()
        said = self._redis.mget([FOLLOWER.format(process=process) for process in processes])
        return {process for process, one in zip(processes, said, strict=True) if one}

    def summed(self, keys: Sequence[str]) -> Counter[str]:
        """Hashes of counts, added up."""
        total: Counter[str] = Counter()
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            for counts in pipe.execute():
                total.update({label.decode(): int(count) for label, count in counts.items()})
        return total

    def get(self, key: str) -> bytes | None:
        """A plain value."""
        value: Any = self._redis.get(key)
        return value if value is None else bytes(value)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
