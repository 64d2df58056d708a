"""Cancellations that a client library turned into an error of its own."""

from __future__ import annotations

import asyncio


def stop_if_cancelled() -> None:
    """Raise CancelledError when the running task was asked to stop.

    Call it in every loop around redis-py: a cancellation that arrives while a pipeline connects can
    come out as another error, or not at all (seen with 8.1: 1 stop in 10), and the loop goes on.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
