"""Transactions that lost a deadlock, again. A database may refuse any of two that wait for each
other, however carefully locks are ordered: foreign keys lock too. What was refused left nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog
from django.db import OperationalError, connection

log = structlog.get_logger(__name__)
_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

#: How often an act is begun; its pauses add up to some two seconds.
TRIES = 6
#: MySQL's and MariaDB's: lock wait timeout, deadlock.
_CONTENTION = frozenset({1205, 1213})


def is_contention(error: OperationalError) -> bool:
    """Whether the database chose one of several that wanted the same rows."""
    return bool(error.args) and error.args[0] in _CONTENTION


def retried(act: Callable[_Given, _Answer]) -> Callable[_Given, _Answer]:
    """Begin a whole act again when it meets contention, `TRIES` times in all. Within a transaction
    it is not its own to begin again: there the error goes to whoever began that."""

    @wraps(act)
    def whole(*args: _Given.args, **options: _Given.kwargs) -> _Answer:
        for tried in range(1, TRIES):
            try:
                return act(*args, **options)
            except OperationalError as error:
                if connection.in_atomic_block or not is_contention(error):
                    raise
                log.info("transaction_again", act=act.__qualname__, tried=tried)
            time.sleep(random.uniform(0.01, 0.03) * 2**tried)  # noqa: S311 - spreads, hides nothing
        return act(*args, **options)

    return whole
