"""Who is asked for money, how often and when: by rounds, and only for what is owed on balance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from unittest.mock import patch

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.invoicing import crediting, payments
from billing.invoicing.adjusting import decide, propose
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.dunning import dun, mark_overdue
from billing.invoicing.finalize import adds_up
from billing.invoicing.netting import set_off, still_owed
from billing.invoicing.sheet import sheet_of
from billing.invoicing.standing import stand_of
from billing.models import Invoice, InvoiceStanding
from tenants.models import BillingProfile, Notice, Tenant
from tests.billing.invoicing.books import DECEMBER, FEBRUARY, JANUARY, NOVEMBER, PlainBook
from tests.billing.invoicing.test_payments import pay, state
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)
DAY = timedelta(days=1)
STEPS = (3, 10, 30)


@pytest.fixture
def invoice(cast: Cast, book: PlainBook) -> Invoice:
    """Acme's of October, of 49.00, which it was sent."""
    return sent(cast.acme, NOVEMBER)


def sent(tenant: Tenant, until: datetime) -> Invoice:
    close_due_periods(until)
    finalize_due(until + GRACE)
    InvoiceStanding.objects.update(sent_at=until + GRACE)
    return Invoice.objects.filter(tenant=tenant).order_by("-period_start")[0]


def notices(invoice: Invoice) -> list[str]:
    kinds = ["overdue", "reminded", "suspended"]
    return list(invoice.events.filter(kind__in=kinds).order_by("pk").values_list("kind", flat=True))


def pass_days(first: datetime, days: int) -> None:
    """The beat of each of these days."""
    for n in range(days):
        mark_overdue(first + n * DAY)
        dun(first + n * DAY)


def test_a_chargeback_begins_the_dunning_anew(invoice: Invoice) -> None:
    due = invoice.due_at
    assert due is not None
    pass_days(due + DAY / 2, 20)
    assert notices(invoice) == ["overdue", "reminded", "reminded"]
    payment = pay(invoice, "49")
    with patch.object(timezone, "now", return_value=due + 100 * DAY):
        payments.charge_back(payment)
    pass_days(due + 100 * DAY, 3)
    # Not suspended for the month in which it was paid; told once more that it is overdue.
    assert notices(invoice)[3:] == ["overdue"]
    assert Notice.objects.filter(tenant=invoice.tenant, kind="invoice.overdue").count() == 2
    pass_days(due + 103 * DAY, 40)
    assert notices(invoice)[3:] == ["overdue", "reminded", "reminded", "suspended"]


#: Days to pass, and what then happens to the invoice.
STORY = st.lists(
    st.tuples(st.integers(0, 35), st.sampled_from(["pay", "charge back", "release", "nothing"])),
    max_size=5,
)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(story=STORY)
def test_each_round_takes_the_steps_in_their_days(
    invoice: Invoice, story: list[tuple[int, str]]
) -> None:
    """A model of one invoice, beaten daily: in each round step n is taken on the first beat that
    is its days after the due date or the reopening, once, as long as money is owed."""
    due = invoice.due_at
    assert due is not None
    with transaction.atomic():
        now, begun, taken = due + DAY / 2, due, 0
        is_open, is_told, wanted = True, False, []
        paid = []
        for n, (days, act) in enumerate(story):
            for _ in range(days):
                if is_open and not is_told:
                    is_told = True
                    wanted.append(("overdue", now))
                if is_open and taken < len(STEPS) and now >= begun + STEPS[taken] * DAY:
                    taken += 1
                    wanted.append(("reminded" if taken < len(STEPS) else "suspended", now))
                pass_days(now, 1)
                now += DAY
            with patch.object(timezone, "now", return_value=now):
                if act == "pay" and is_open:
                    paid.append(pay(invoice, "49", f"tx {n}"))
                    is_open = False
                elif act in {"charge back", "release"} and paid and not is_open:
                    if act == "release":
                        payments.release(paid[-1], invoice, Decimal(49))
                        payments.refund(paid[-1], Decimal(49))
                    else:
                        payments.charge_back(paid[-1])
                    is_open, is_told, begun, taken = True, False, now, 0
        kinds = ["overdue", "reminded", "suspended"]
        rows = invoice.events.filter(kind__in=kinds).order_by("pk")
        assert list(rows.values_list("kind", "at")) == wanted
        transaction.set_rollback(True)


# --- on balance -------------------------------------------------------------------------------

CENTS = st.integers(0, 10_000).map(lambda cents: Decimal(cents) / 100)


@given(owed=st.lists(CENTS, max_size=6), in_favour=st.lists(CENTS, max_size=6))
def test_what_is_set_off(owed: Sequence[Decimal], in_favour: Sequence[Decimal]) -> None:
    """All that can be is used, nothing beyond what it is, and the first before the later ones."""
    parts = set_off(list(enumerate(owed)), list(enumerate(in_favour)))
    assert sum(part.amount for part in parts) == min(sum(owed), sum(in_favour))
    got = [sum(p.amount for p in parts if p.target == n) for n in range(len(owed))]
    gave = [sum(p.amount for p in parts if p.source == n) for n in range(len(in_favour))]
    for whole, share in ((owed, got), (in_favour, gave)):
        assert all(0 <= part <= all_ for part, all_ in zip(share, whole, strict=True))
        short = [n for n, part in enumerate(share) if part < whole[n]]
        if short:
            assert not any(share[short[0] + 1 :])
    left = still_owed(list(enumerate(owed)), sum(in_favour, start=Decimal(0)))
    assert list(left.values()) == [all_ - part for part, all_ in zip(got, owed, strict=True)]


def test_who_is_in_credit_is_not_dunned(cast: Cast, invoice: Invoice) -> None:
    """An older invoice is open; the newer one owes the customer more."""
    credit = propose(cast.acme, Decimal(-200), code="sla", name="Outage", by="ada")
    decide(credit, approve=True, by="ben")
    newer = sent(cast.acme, DECEMBER)
    assert newer.due == Decimal(-151)
    # It settles the older one as it is finalized, and says so; the rest waits for the next.
    assert (state(invoice), state(newer)) == (("paid", 0), ("in_favour", Decimal(-102)))
    assert (newer.carried, newer.payable) == (Decimal(-49), Decimal(-102))
    assert sheet_of(newer).totals[-1] == ("Used for earlier invoices", "49.00")
    assert sheet_of(newer).due == ("In your favour", "102.00 USD")
    pass_days(invoice.due_at + DAY, 40)  # type: ignore[operator]
    assert notices(invoice) == []
    third = sent(cast.acme, JANUARY)
    assert (third.carried, third.payable) == (Decimal(49), Decimal(0))
    assert state(newer) == ("in_favour", Decimal(-53))
    assert sheet_of(third).totals[-1] == ("Settled by earlier credit", "−49.00")
    assert sheet_of(third).due == ("Amount due", "0.00 USD")
    assert sheet_of(third).payment == ()


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(amounts=st.lists(st.integers(-15_000, 5_000).filter(bool), min_size=1, max_size=4))
def test_a_document_asks_for_what_the_books_do(
    cast: Cast, book: PlainBook, amounts: list[int]
) -> None:
    """As each invoice is finalized: its hash holds, what it asks for is what is open of it, all of
    a tenant add up to what it bought, and none is open while another is in its favour."""
    with transaction.atomic():
        bought = Decimal(0)
        for n, cents in enumerate(amounts):
            row = propose(cast.acme, Decimal(cents) / 100, code="x", name="By hand", by="ada")
            decide(row, approve=True, by="ben")
            last = sent(cast.acme, (NOVEMBER, DECEMBER, JANUARY, FEBRUARY)[n])
            bought += last.due
            standing = InvoiceStanding.objects.get(invoice=last)
            assert (last.payable, standing.balance) == (standing.balance, stand_of(last).balance)
            assert last.due == 49 + Decimal(cents) / 100
            assert adds_up(last, list(last.lines.order_by("place")))
            rows = InvoiceStanding.objects.filter(invoice__tenant=cast.acme).exclude(balance=0)
            balances = [row.balance for row in rows]
            assert sum(balances) == bought
            assert len({balance > 0 for balance in balances}) <= 1
        transaction.set_rollback(True)


def test_a_credit_on_what_was_carried_settles_the_oldest(cast: Cast, invoice: Invoice) -> None:
    """What is reopened or freed later is set off at once, the oldest due first."""
    credit = propose(cast.acme, Decimal(-98), code="sla", name="Outage", by="ada")
    payment = pay(invoice, "49")
    decide(credit, approve=True, by="ben")
    second = sent(cast.acme, DECEMBER)
    assert state(second) == ("in_favour", Decimal(-49))
    payments.charge_back(payment)
    assert (state(invoice), state(second)) == (("paid", 0), ("paid", 0))
    third = sent(cast.acme, JANUARY)
    crediting.credit(invoice, reason="it was never served", by="ada")
    assert (state(invoice), state(third)) == (("paid", 0), ("paid", 0))


def test_money_that_is_for_nothing_yet_counts(
    cast: Cast, invoice: Invoice, django_capture_on_commit_callbacks: object
) -> None:
    profile = {"legal_name": "Acme Ltd", "country": "GB", "invoice_email": "ap@acme.example"}
    BillingProfile.objects.create(tenant=cast.acme, **profile)
    due = invoice.due_at
    assert due is not None

    def receive(amount: int, reference: str) -> None:
        payments.record_payment(
            cast.acme, Decimal(amount), method="usdc", reference=reference, received_at=NOVEMBER
        )

    receive(20, "0x1")
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        pass_days(due + DAY / 2, 5)
    (message,) = mail.outbox
    assert "29.00 USD is still open" in " ".join(message.body.split())
    receive(29, "0x2")
    pass_days(due + 6 * DAY, 60)
    assert notices(invoice) == ["overdue", "reminded"]
    cast.acme.refresh_from_db()
    assert not cast.acme.is_suspended
