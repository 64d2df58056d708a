"""Documents of the database, each text read once in a process: the same text is the same prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import lru_cache

from billing.rating.document import read_add_on, read_discount, read_override, read_plan
from billing.rating.prices import AddOnPrices, Discount, Override, PlanPrices

_KEPT = 4_096


@lru_cache(_KEPT)
def read_plan_once(text: str) -> PlanPrices:
    """As `read_plan`."""
    return read_plan(text)


@lru_cache(_KEPT)
def read_add_on_once(text: str) -> AddOnPrices:
    """As `read_add_on`."""
    return read_add_on(text)


def override_of(text: str, starts_at: datetime, ends_at: datetime | None) -> Override:
    """As `read_override`, in force at another time than its text says."""
    return replace(_override(text), starts_at=starts_at, ends_at=ends_at)


def discount_of(text: str, starts_at: datetime, ends_at: datetime | None) -> Discount:
    """As `read_discount`, in force at another time than its text says."""
    return replace(_discount(text), starts_at=starts_at, ends_at=ends_at)


@lru_cache(_KEPT)
def _override(text: str) -> Override:
    return read_override(text)


@lru_cache(_KEPT)
def _discount(text: str) -> Discount:
    return read_discount(text)
