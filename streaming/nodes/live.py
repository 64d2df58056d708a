"""What workers and edges say of themselves in Redis, read without disturbing them.

Reads from outside the data plane: each is bounded in time, and a Redis that is away gives
`Unreachable`, which a page shows instead of the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import redis
from django.conf import settings

from streaming.bus import keys

TIMEOUT_S = 2.0


class Unreachable(Exception):
    """Redis did not answer; one line saying why, without its address."""


@contextmanager
def bus() -> Iterator[redis.Redis]:
    """A connection to the bus that does not decode. Raises Unreachable for what goes wrong
    within."""
    client = redis.Redis.from_url(
        settings.REDIS_BUS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
    )
    try:
        yield client
    except (redis.RedisError, OSError) as error:
        raise Unreachable(f"Redis does not answer ({type(error).__name__})") from error
    finally:
        client.close()


def worker_states() -> dict[str, dict[str, Any]]:
    """The heartbeat of each worker that is alive, by its id. Raises Unreachable."""
    with bus() as client:
        members: Any = client.smembers(keys.WORKERS)
        names = sorted(name.decode() for name in members)
        if not names:
            return {}
        states: Any = client.mget([keys.WORKER.format(worker=name) for name in names])
    return {name: state for name, text in zip(names, states, strict=True) if (state := _read(text))}


def _read(text: bytes | None) -> dict[str, Any] | None:
    if not text:
        return None  # expired: the worker is gone
    try:
        state = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return state if isinstance(state, dict) and isinstance(state.get("sources"), dict) else None
