"""Service credits of a void invoice: a copy stands for each, so its time and its part of the fee
count once, whoever of them is rejected."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.invoicing.adjusting import decide, propose_sla_credit
from billing.invoicing.again import draft_again
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.crediting import void
from billing.invoicing.finalize import finalize
from billing.models import Adjustment, Invoice
from tests.billing.invoicing.books import NOVEMBER, OCTOBER, PlainBook
from tests.tenants.cast import Cast

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def factor(settings: Any) -> None:
    settings.RELAY_SLA_FACTOR = 10


def gap(cast: Cast, start: datetime, end: datetime, origin: str) -> Adjustment:
    (found,) = propose_sla_credit(cast.acme, [(start, end)], reason="x", origin=origin)
    return found


def close() -> Invoice:
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=Adjustment.objects.earliest("pk").tenant)


def void_one(cast: Cast, days: int) -> tuple[Invoice, Adjustment, Adjustment]:
    """An invoice with a credit for the first `days` that is void, the credit and its copy."""
    first = gap(cast, OCTOBER, OCTOBER + days * DAY, "gap:1")
    decide(first, approve=True, by="ben")
    invoice = close()
    void(invoice, reason="another buyer", by="ada")
    first.refresh_from_db()
    return invoice, first, Adjustment.objects.get(origin=f"void:{first.pk}")


def test_the_copy_is_worth_what_it_was(cast: Cast, book: PlainBook) -> None:
    _, first, copy = void_one(cast, 1)
    other = gap(cast, OCTOBER + 9 * DAY, OCTOBER + 9 * DAY + HOUR, "gap:2")
    decide(other, approve=False, by="ben")
    copy.refresh_from_db()
    assert copy.amount == first.amount < 0


def test_drafted_again_the_fee_is_used_up_once(cast: Cast, book: PlainBook) -> None:
    invoice, first, _ = void_one(cast, 2)
    finalize(draft_again(invoice))
    rest = gap(cast, OCTOBER + 9 * DAY, OCTOBER + 19 * DAY, "gap:2")
    assert rest.amount == -(49 + first.amount) < 0
    none = gap(cast, OCTOBER + 20 * DAY, OCTOBER + 21 * DAY, "gap:3")
    assert none.amount == 0


def test_a_rejected_copy_leaves_its_part_to_others(cast: Cast, book: PlainBook) -> None:
    _, first, copy = void_one(cast, 3)
    decide(copy, approve=False, by="ben")
    other = gap(cast, OCTOBER, OCTOBER + 5 * DAY, "gap:2")
    assert first.amount > other.amount == Decimal(-49)
    assert decide(other, approve=True, by="ben").amount == -49
