"""The pots that slices of rates are taken from, in Redis, by Redis' own clock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.admission.rates import HOLD_S, LEASE_S, Grant, OnHold, Request

_POT = "relay:rate:"
#: Says since when the pots are remembered. One that is missing was full then, or, where a process
#: knows of others that were lost, empty. Then nobody takes of them until `HOLD_S` later: until then
#: each process has its own share, and has heard when that ends.
_MEMORY = "relay:rates:memory"
MEMORY_KEPT_S = 86_400

# A pot is a hash: level, at (s), and for each process h:<process> (what it holds) and e:<process>
# (until when). Level and all that is held are never more than the burst.
#
# KEYS: memory, then a pot each. ARGV: process, memory it knows, a name for a new one, lease s,
# memory kept s, the time where it is not Redis' own (in tests), hold s, then for each pot: rate a
# second, burst, spent, want.
_LEASE = """
local time = redis.call('TIME')
local now = tonumber(ARGV[6]) or tonumber(time[1]) + tonumber(time[2]) / 1e6
local process, known, lease = ARGV[1], ARGV[2], tonumber(ARGV[4])
local memory = redis.call('HMGET', KEYS[1], 'name', 'since')
local name, since = memory[1], tonumber(memory[2] or '0')
local is_lost = known ~= '' and name ~= known
if not name then
  name = ARGV[3]
  redis.call('HSET', KEYS[1], 'name', name, 'since', '0')
end
if is_lost and since == 0 then
  since = now + tonumber(ARGV[7])
  redis.call('HSET', KEYS[1], 'since', string.format('%.6f', since))
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
if since > now then return {name, string.format('%.6f', since - now)} end
local answers = {name, '0'}
for i = 2, #KEYS do
  local at = 4 * (i - 2) + 7
  local rate, burst = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local spent, want = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local pot, level, last, held, others = redis.call('HGETALL', KEYS[i]), nil, now, 0, 0
  local gone, until_of, held_of, lapsed, lapse = {}, {}, {}, 0, 0
  for j = 1, #pot, 2 do
    local field, value = pot[j], tonumber(pot[j + 1])
    if field == 'level' then level = value
    elseif field == 'at' then last = value
    elseif string.sub(field, 1, 2) == 'e:' then until_of[string.sub(field, 3)] = value
    else held_of[string.sub(field, 3)] = value end
  end
  for owner, amount in pairs(held_of) do
    if (until_of[owner] or 0) <= now then
      gone[#gone + 1] = 'h:' .. owner
      gone[#gone + 1] = 'e:' .. owner
      lapsed, lapse = lapsed + amount, math.max(lapse, until_of[owner] or 0)
    elseif owner == process then held = amount
    else others = others + amount end
  end
  if #gone > 0 then redis.call('HDEL', KEYS[i], unpack(gone)) end
  if not level then
    level = since == 0 and burst or math.min(burst, rate * math.max(0, now - since))
    last = now
  end
  -- Full with what is held: time that passed then is no room for what was spent after it, and is
  -- told only now.
  if lapse > last then
    level = math.min(level + rate * (lapse - last), burst - others - held - lapsed)
    last = lapse
  end
  level = math.min(level + rate * math.max(0, now - last), burst - others - held)
  if not is_lost then
    held = held - spent
    if held < 0 then level, held = math.max(level + held, -burst), 0 end
  end
  if want < 0 then
    local back = math.min(-want, held)
    held, level = held - back, level + back
  end
  level = math.min(level, burst - others - held)
  local grant = math.max(0, math.min(want, level))
  held, level = held + grant, level - grant
  redis.call('HSET', KEYS[i], 'level', string.format('%.6f', level), 'at',
    string.format('%.6f', math.max(now, last)))
  if held > 0 then
    redis.call('HSET', KEYS[i], 'h:' .. process, string.format('%.6f', held), 'e:' .. process,
      string.format('%.6f', now + lease))
  else
    redis.call('HDEL', KEYS[i], 'h:' .. process, 'e:' .. process)
  end
  -- When it is forgotten it is full: it would be made anew as that.
  redis.call('EXPIRE', KEYS[i], math.ceil((burst - math.min(0, level)) / rate + lease) + 60)
  answers[#answers + 1] = string.format('%.6f', held)
  answers[#answers + 1] = string.format('%.6f', level)
end
return answers
"""


class RateStore:
    """Every call raises redis.RedisError, OSError or TimeoutError. `clock` is for tests: else the
    time is Redis' own, and no process' clock has a say."""

    def __init__(self, url: str, *, process: str, clock: Callable[[], float] | None = None) -> None:
        self._process = process
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        self._lease = self._redis.register_script(_LEASE)
        self._memory = ""
        self._clock = clock

    async def lease(self, requests: Sequence[Request]) -> list[Grant]:
        """Tell what was spent of each, and take or give back, all at one moment. Raises OnHold."""
        keys = [_MEMORY, *(_POT + request.bucket for request in requests)]
        new = uuid.uuid4().hex
        args: list[str | float] = [self._process, self._memory, new, LEASE_S, MEMORY_KEPT_S]
        args += ["" if self._clock is None else self._clock(), HOLD_S]
        for request in requests:
            rate = request.rate
            args += [rate.per_minute / 60, rate.burst, request.spent, request.want]
        name, hold_s, *numbers = await self._lease(keys=keys, args=args)
        self._memory = name.decode()
        if float(hold_s):
            raise OnHold(float(hold_s))
        amounts = [float(number) for number in numbers]
        return [Grant(*pair) for pair in zip(amounts[::2], amounts[1::2], strict=True)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
