"""What processes share through Redis about keys: the directory entries, and what each process holds
open.

Everything here may be lost or unreachable at any moment; the database is the truth. JSON, never
pickle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, InvalidOperation
from ipaddress import ip_network
from typing import Any, NamedTuple

import orjson
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate
from tenants.admission.principal import THRESHOLDS, Allowed, Limits, Principal
from tenants.admission.quotas import Held
from tenants.admission.rails import Rails

#: For this long after the database was asked its answer is believed, here and in the processes
#: together: what a customer is promised for a revocation of which nobody heard.
FRESH_S = 30
#: An entry outlives its freshness so that known keys still work while the database is down.
KEPT_S = 3_600
#: What a process holds open is forgotten this long after it last said so.
OCCUPANCY_KEPT_S = 6

_ENTRY = "relay:key:"
_OCCUPANCY = "relay:occupancy"
# 2 knows the lists of addresses and origins. What 1 wrote says nothing of them, so it is no answer:
# a limited key would be open to everybody while a deployment rolls. 3 is stamped by Redis's clock.
# 4 knows allowances and all limits: what 3 wrote would let tenants at what their plan has not.
# 5 knows guard rails: what 4 wrote would send what they hold back.
_VERSION = 5
_STAMP_DIGITS = 13
_SETS = ("products", "channels", "regions")
_NAMES = ("signers", "kinds", "coins")
_AMOUNTS = ("max_order_usd", "max_minute_usd")

# An entry is its read time (13 digits of ms, Redis's TIME from before the database was asked: the
# clocks of hosts differ) and its JSON. A slow reader that asked the database before a revocation
# committed must not overwrite what the revocation wrote meanwhile, so the later read time wins, in
# one step. "Opens nothing" wins whatever the times: wrong, it costs a question to the database, and
# the opposite mistake opens a revoked key.
_PUT = """
local function opens(entry) return string.find(entry, '"key_id"', 14, true) ~= nil end
local function read_at(entry) return tonumber(string.sub(entry, 1, 13)) or 0 end
local old, new = redis.call('GET', KEYS[1]), ARGV[1]
if old and opens(new) then
  if read_at(old) > read_at(new) then return 0 end
  if read_at(old) == read_at(new) and not opens(old) then return 0 end
end
redis.call('SET', KEYS[1], new, 'EX', ARGV[2])
return 1
"""

# By Redis' clock: one host's that is ahead would forget all others.
# KEYS: the processes, what this one holds. ARGV: its name, what it holds, for how many s.
_TRADE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - 60)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""


class Entry(NamedTuple):
    """What the directory says about a digest: a principal, or None for "opens nothing".

    `read_at_ms` is the store's own time at which the database had not yet been asked for it.
    """

    principal: Principal | None
    read_at_ms: int

    def is_fresh(self, now_ms: int) -> bool:
        """Whether it may be believed without asking the database, at the store's time `now_ms`; not
        if it is from the future, because then that clock has jumped."""
        return 0 <= now_ms - self.read_at_ms < FRESH_S * 1000


class Found(NamedTuple):
    """The entries that a store has of some digests, and its own time."""

    entries: dict[str, Entry]
    now_ms: int


def encode_entry(entry: Entry) -> bytes:
    """The stored form of `entry`."""
    body: dict[str, Any] = {"v": _VERSION}
    if (principal := entry.principal) is not None:
        body |= {
            "tenant_id": principal.tenant_id,
            "tenant_slug": principal.tenant_slug,
            "key_id": principal.key_id,
            "key_prefix": principal.key_prefix,
            "environment": str(principal.environment),
            "plan_code": principal.plan_code,
            "scopes": sorted(principal.scopes),
            "limits": _limits_body(principal.limits),
            "expires_at": principal.expires_at.isoformat() if principal.expires_at else None,
            "digest": principal.digest,
            "family_id": principal.family_id,
            "networks": [str(network) for network in principal.networks],
            "origins": sorted(principal.origins),
            "rate": list(principal.rate) if principal.rate else None,  # orjson refuses subclasses
            "daily_quota": principal.daily_quota,
            "monthly_quota": principal.monthly_quota,
            "allowances": [list(allowed) for allowed in principal.allowances],
            "thresholds": list(principal.thresholds),
            "rails": _rails_body(principal.rails) if principal.rails else None,
        }
    return b"%0*d" % (_STAMP_DIGITS, entry.read_at_ms) + orjson.dumps(body)


def decode_entry(data: bytes | str) -> Entry | None:
    """The entry in `data`; None for what another version or somebody else wrote: then the database
    is asked."""
    try:
        read_at_ms = int(data[:_STAMP_DIGITS])
        body = orjson.loads(data[_STAMP_DIGITS:])
        if body["v"] != _VERSION:
            return None
        if "key_id" not in body:
            return Entry(None, read_at_ms)
        expires_at = body["expires_at"]
        principal = Principal(
            tenant_id=body["tenant_id"],
            tenant_slug=body["tenant_slug"],
            key_id=body["key_id"],
            key_prefix=body["key_prefix"],
            environment=Environment(body["environment"]),
            plan_code=body["plan_code"],
            scopes=frozenset(body["scopes"]),
            limits=_limits(body["limits"]),
            expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
            digest=body["digest"],
            family_id=body["family_id"],
            networks=tuple(ip_network(text) for text in body["networks"]),
            origins=frozenset(body["origins"]),
            rate=Rate(*body["rate"]) if body["rate"] else None,
            daily_quota=body["daily_quota"],
            monthly_quota=body["monthly_quota"],
            allowances=tuple(_allowed(*row) for row in body["allowances"]),
            # What says nothing of them is told at the usual ones, until it is written again.
            thresholds=tuple(body.get("thresholds", THRESHOLDS)),
            rails=_rails(body["rails"]) if body["rails"] else None,
        )
    except (ValueError, KeyError, TypeError, InvalidOperation):
        return None
    return Entry(principal, read_at_ms)


def _limits_body(limits: Limits) -> dict[str, Any]:
    body = asdict(limits)
    body["rate"] = list(limits.rate) if limits.rate else None
    return body | {
        name: None if (words := getattr(limits, name)) is None else sorted(words) for name in _SETS
    }


def _limits(body: dict[str, Any]) -> Limits:
    sets = {
        name: None if (words := body[name]) is None else frozenset[str](words) for name in _SETS
    }
    return Limits(**body | sets | {"rate": Rate(*body["rate"]) if body["rate"] else None})


def _rails_body(rails: Rails) -> dict[str, Any]:
    amounts = {name: _text(getattr(rails, name)) for name in _AMOUNTS}
    return asdict(rails) | amounts | {name: sorted(getattr(rails, name)) for name in _NAMES}


def _rails(body: dict[str, Any]) -> Rails:
    amounts = {name: None if (text := body[name]) is None else Decimal(text) for name in _AMOUNTS}
    return Rails(**body | amounts | {name: frozenset(body[name]) for name in _NAMES})


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _allowed(
    code: str,
    metric: str,
    starts_at: str,
    ends_at: str,
    units: int,
    is_hard: bool,
    channels: list[str],
    weights: list[list[str]],
) -> Allowed:
    return Allowed(
        code,
        metric,
        datetime.fromisoformat(starts_at),
        datetime.fromisoformat(ends_at),
        units,
        is_hard,
        tuple(channels),
        tuple((channel, weight) for channel, weight in weights),
    )


class RedisStore:
    """The shared directory as the data plane reads it. Every call raises redis.RedisError, OSError
    or TimeoutError."""

    def __init__(self, url: str, *, processes: int = 1) -> None:
        """`processes` are thought to share the limits until Redis has said how many do."""
        # No retries and half a second: a slow Redis must cost a handshake less than asking the
        # database.
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        self._put = self._redis.register_script(_PUT)
        self._trade = self._redis.register_script(_TRADE)
        #: How many processes shared what they hold when they were last asked, this one included.
        self.processes = processes

    async def get(self, digests: Collection[str]) -> Found:
        """The entries that exist among `digests`, fresh or not; of none, the time alone."""
        wanted = list(digests)
        async with self._redis.pipeline(transaction=False) as pipeline:
            if wanted:
                pipeline.mget([_ENTRY + digest for digest in wanted])
            pipeline.time()
            *found, now = await pipeline.execute()
        values = found[0] if found else []
        entries = {
            digest: decode_entry(value)
            for digest, value in zip(wanted, values, strict=True)
            if value
        }
        known = {digest: entry for digest, entry in entries.items() if entry is not None}
        return Found(known, _in_ms(now))

    async def put(self, entries: Mapping[str, Entry]) -> None:
        """Store `entries`; one that opens something, only where no later read is stored."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for digest, entry in entries.items():
                await self._put(
                    keys=[_ENTRY + digest], args=[encode_entry(entry), KEPT_S], client=pipeline
                )
            await pipeline.execute()

    async def trade_occupancy(self, process: str, held: Mapping[int, Held]) -> dict[int, Held]:
        """Say what this process holds open; learn what all others do, summed by tenant id.

        A process that falls silent for six seconds counts as holding nothing.
        """
        rows = [(tenant_id, *counts) for tenant_id, counts in held.items()]
        members = await self._trade(
            keys=[_OCCUPANCY, f"{_OCCUPANCY}:{process}"],
            args=[process, orjson.dumps(rows), OCCUPANCY_KEPT_S],
        )
        others = [name for member in members if (name := member.decode()) != process]
        elsewhere: dict[int, Held] = {}
        processes = 1
        values = (
            await self._redis.mget([f"{_OCCUPANCY}:{name}" for name in others]) if others else []
        )
        for value in values:
            processes += value is not None
            for tenant_id, *counts in orjson.loads(value) if value else ():
                before = elsewhere.get(tenant_id, Held())
                elsewhere[tenant_id] = Held(
                    *(mine + more for mine, more in zip(before, Held(*counts), strict=True))
                )
        self.processes = processes
        return elsewhere

    async def leave(self, process: str) -> None:
        """Forget what this process held, at a clean stop."""
        await self._redis.delete(f"{_OCCUPANCY}:{process}")
        await self._redis.zrem(_OCCUPANCY, process)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def put_entries(url: str, entries: Mapping[str, Entry]) -> None:
    """`RedisStore.put` for code without a loop: the services, after a commit. Raises
    redis.RedisError."""
    with _client(url) as client:
        put = client.register_script(_PUT)
        with client.pipeline(transaction=False) as pipeline:
            for digest, entry in entries.items():
                put(keys=[_ENTRY + digest], args=[encode_entry(entry), KEPT_S], client=pipeline)
            pipeline.execute()


def time_ms(url: str) -> int:
    """The time of the store, for what is read after this and then put. Raises redis.RedisError."""
    with _client(url) as client:
        return _in_ms(client.time())


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
    )


def _in_ms(time_: tuple[int, int]) -> int:
    """Redis's TIME (seconds, microseconds) in ms."""
    seconds, microseconds = time_
    return seconds * 1000 + microseconds // 1000
