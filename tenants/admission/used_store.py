"""How much of each cap all processes have used, in Redis: one whole number of thousandths each.

A number only grows while its cap lasts. Whoever has seen a larger one than is there says so, and it
is that again: so a Redis that lost all, or came back from an old file, knows within a second what
the process knows that heard of it last. Nothing is added in the same call: the others have a second
to say what they have seen, before what was not told yet comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

#: A process that settled nothing for so long has no batch on its way any more.
SEQUENCE_KEPT_S = 600
#: A use of a cap's last second may be told a little after its end.
KEPT_AFTER_END_S = 86_400

_USED = "relay:used:"
_SETTLED = "relay:settled:"

# KEYS: the sequence of this process and tenant, then a cap each.
# ARGV: sequence, how long to keep it, then for each cap: what to add, what was seen, when it ends.
# A cap that nobody has told yet and the caller has not seen is left alone, and answered by ''; one
# that was raised to what the caller has seen, by 'raised'.
# Numbers are compared as doubles (exact below 9e15, so 9 TB) and added as 64-bit integers, in text.
_SETTLE = """
local last = redis.call('GET', KEYS[1])
local again = last and tonumber(last) >= tonumber(ARGV[1])
local answers = {}
for i = 2, #KEYS do
  local add, seen, ends = ARGV[3 * i - 3], ARGV[3 * i - 2], ARGV[3 * i - 1]
  local used = redis.call('GET', KEYS[i])
  if seen ~= '' and (not used or tonumber(used) < tonumber(seen)) then
    redis.call('SET', KEYS[i], seen, 'EXAT', ends)
    answers[#answers + 1] = 'raised'
  elseif used then
    if not again and add ~= '0' then redis.call('INCRBY', KEYS[i], add) end
    redis.call('EXPIREAT', KEYS[i], ends)
    answers[#answers + 1] = redis.call('GET', KEYS[i]) or ''
  else
    answers[#answers + 1] = ''
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return answers
"""


class Line(NamedTuple):
    """One cap in a settlement: thousandths to add, and the most this process has seen or been told
    (None: nothing)."""

    name: str
    add: int
    seen: int | None
    ends_at: datetime


class Settlement(NamedTuple):
    """What one process adds for one tenant, under a number that counts once."""

    tenant_id: int
    sequence: int
    lines: tuple[Line, ...]


class UsedStore:
    """Every call raises redis.RedisError, OSError or TimeoutError."""

    def __init__(self, url: str, *, process: str) -> None:
        self._process = process
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        self._settle = self._redis.register_script(_SETTLE)

    async def settle(self, settlements: Sequence[Settlement]) -> list[list[int | None]]:
        """Add each, once, and answer for each line what all processes used, None where it was not
        added, because nobody has told yet or somebody had told less than was seen. The same number
        again adds nothing."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for settlement in settlements:
                keys = [f"{_SETTLED}{{{settlement.tenant_id}}}:{self._process}"]
                args: list[str | int] = [settlement.sequence, SEQUENCE_KEPT_S]
                for line in settlement.lines:
                    keys.append(_key(settlement.tenant_id, line.name))
                    ends_s = int(line.ends_at.timestamp()) + KEPT_AFTER_END_S
                    args += [line.add, "" if line.seen is None else line.seen, ends_s]
                await self._settle(keys=keys, args=args, client=pipeline)
            answers = await pipeline.execute()
        return [[int(used) if used.isdigit() else None for used in answer] for answer in answers]

    async def read(self, tenant_id: int, names: Sequence[str]) -> list[int | None]:
        """What all processes used of each, None where nobody has told."""
        values = await self._redis.mget([_key(tenant_id, name) for name in names])
        return [int(value) if value else None for value in values]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _key(tenant_id: int, name: str) -> str:
    return f"{_USED}{{{tenant_id}}}:{name}"
