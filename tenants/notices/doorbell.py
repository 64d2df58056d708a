"""Wakes the workers after a commit. What it carries is nothing: the rows are in the database, and
beat looks every few seconds whether anybody rang or not."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from celery import current_app

log = structlog.get_logger(__name__)

#: A bell nobody heard within this is not worth hearing: beat has been there.
_EXPIRES_S = 30
_BROKER_S = 1.0
#: After a broker that did not answer, nobody waits for it again for so long.
_QUIET_S = 5.0

_local = threading.local()


def ring_webhooks() -> None:
    """Have due webhooks sent now. Never raises."""
    ring("tenants.tasks.send_webhooks")


def ring_mail() -> None:
    """Have due mail sent now. Never raises."""
    ring("tenants.tasks.send_mail")


def ring(task: str) -> None:
    """Have a task that looks for itself what is due run now. Never raises."""
    if time.monotonic() < getattr(_local, "quiet_until_s", 0.0):
        return
    try:
        current_app.send_task(task, connection=_broker(), retry=False, expires=_EXPIRES_S)
    except Exception as error:
        # Whoever committed the fact is not held up by a broker that is down.
        _local.broker, _local.quiet_until_s = None, time.monotonic() + _QUIET_S
        log.warning("notice_bell_failed", task=task, error=type(error).__name__)


def _broker() -> Any:
    """This thread's broker connection. Celery's own pool would retry one that is down for ever."""
    connection = getattr(_local, "broker", None)
    if connection is None:
        options = {
            **(current_app.conf.broker_transport_options or {}),
            "max_retries": 0,
            "socket_timeout": _BROKER_S,
            "socket_connect_timeout": _BROKER_S,
        }
        connection = _local.broker = current_app.connection_for_write(
            transport_options=options, connect_timeout=_BROKER_S
        )
    return connection
