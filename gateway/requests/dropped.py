"""How many records were not kept, of all processes, by day and reason: an operator who reads the
list must see that it is not all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import redis
from django.conf import settings

DAYS = 7
KEY = "relay:requests:dropped:{day}"


def add(counts: Mapping[str, int]) -> None:
    """Add what a process dropped. Raises redis.RedisError or OSError."""
    key = KEY.format(day=_today())
    with _client() as client, client.pipeline(transaction=False) as pipe:
        for reason, count in counts.items():
            pipe.hincrby(key, reason, count)
        pipe.expire(key, (DAYS + 1) * 86_400)
        pipe.execute()


def lately() -> Counter[str]:
    """What was dropped within `DAYS`, by reason. Raises redis.RedisError or OSError."""
    found: Counter[str] = Counter()
    with _client() as client, client.pipeline(transaction=False) as pipe:
        for day in range(_today() - DAYS + 1, _today() + 1):
            pipe.hgetall(KEY.format(day=day))
        for counts in pipe.execute():
            found.update({reason.decode(): int(count) for reason, count in counts.items()})
    return found


def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_CACHE_URL, socket_timeout=1.0, socket_connect_timeout=1.0
    )


def _today() -> int:
    return int(time.time() // 86_400)
