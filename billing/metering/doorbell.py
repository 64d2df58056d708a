"""The way between spool and database: Celery carries a copy of the batch there, Redis the
confirmation back.

Either may lose what it is given. The spool keeps the batch and sends it again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import cache
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing.metering.batch import BatchId

#: Far above the spool's longest pause before it sends again, and after that a new copy brings a new
#: confirmation.
ACK_KEPT_S = 86_400
_ACK = "relay:usage:ack:"

_local = threading.local()


def ring(batch_id: BatchId, payload: bytes) -> None:
    """Send a copy of a batch to the ingest task. Raises when the broker does not take it within a
    few seconds."""
    from billing.tasks import ingest_batch

    ingest_batch.apply_async(
        args=(batch_id.worker, batch_id.seq, payload.decode()), connection=_broker(), retry=False
    )


def acknowledged(batch_ids: Collection[BatchId]) -> list[BatchId]:
    """Which of these the database has. Raises redis.RedisError."""
    wanted = list(batch_ids)
    if not wanted:
        return []
    values = _redis(settings.REDIS_QUOTA_URL).mget([_key(batch_id) for batch_id in wanted])
    return [batch_id for batch_id, value in zip(wanted, values, strict=True) if value is not None]


def acknowledge(batch_id: BatchId) -> None:
    """Confirm that the database has a batch; call it after the commit. Raises redis.RedisError."""
    _redis(settings.REDIS_QUOTA_URL).set(_key(batch_id), b"1", ex=ACK_KEPT_S)


def _key(batch_id: BatchId) -> str:
    return f"{_ACK}{batch_id.worker}:{batch_id.seq}"


def _broker() -> Any:
    """This thread's broker connection. Celery's own pool would retry a broker that is down for
    ever."""
    connection = getattr(_local, "broker", None)
    if connection is None:
        options = {
            **current_app.conf.broker_transport_options,
            "max_retries": 1,
            "interval_start": 0,
        }
        options |= {"socket_timeout": 3.0, "socket_connect_timeout": 3.0}
        connection = current_app.connection_for_write(
            transport_options=options, connect_timeout=3.0
        )
        _local.broker = connection
    return connection


@cache
def _redis(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 0)
    )
