"""What operators give away: beneath the limit alone, above it with a second person; as a sum, by
whatever way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from billing.catalogue.wallet import wallet_balance
from billing.invoicing import adjusting, approving, conceding, crediting, payments
from billing.invoicing.again import draft_again
from billing.invoicing.approval import Gift, weigh
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import ApprovalError, InvoicingError
from billing.invoicing.finalize import finalize
from billing.models import Adjustment, Concession, Invoice, PaymentAllocation, WalletEntry
from tests.billing.invoicing.books import DECEMBER, JANUARY, PlainBook
from tests.billing.invoicing.test_payments import pay, state
from tests.tenants.cast import Cast

DAY = timedelta(days=1)
LIMIT = 40
CENTS = st.integers(1, 3_000).map(lambda cents: Decimal(cents) / 100)


@pytest.fixture
def invoices(cast: Cast, book: PlainBook, settings: Any) -> list[Invoice]:
    """Acme's of October and November, of 49.00 each."""
    settings.RELAY_CREDIT_LIMIT = LIMIT
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + timedelta(hours=72))
    return list(Invoice.objects.filter(tenant=cast.acme).order_by("period_start"))


@given(gifts=st.lists(st.tuples(st.integers(0, 90), CENTS), max_size=12))
def test_in_no_window_is_more_given_alone_than_the_limit(gifts: list[tuple[int, Decimal]]) -> None:
    """However it is cut into parts and spread over days; and what is within is never stopped."""
    start, days, limit = datetime(2026, 1, 1, tzinfo=UTC), 30, Decimal(LIMIT)
    alone: list[Gift] = []
    for day, amount in sorted(gifts):
        verdict = weigh(amount, alone, now=start + day * DAY, limit=limit, days=days)
        within = [gift for gift in alone if gift.at > start + (day - days) * DAY]
        assert verdict.needs_second == (sum(g.amount for g in within) + amount > limit)
        if not verdict.needs_second:
            alone.append(Gift(start + day * DAY, amount))
    for day in range(91):
        last = start + day * DAY
        window = [gift.amount for gift in alone if last - days * DAY < gift.at <= last]
        assert sum(window) <= limit


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["credit", "adjust", "write off", "wallet", "refund"]),
        st.sampled_from(["ada", "ben"]),
        CENTS,
        st.integers(0, 20),
    ),
    max_size=8,
)


def give(act: str, invoice: Invoice, amount: Decimal, by: str) -> None:
    """Money, by one of the ways."""
    tenant = invoice.tenant
    match act:
        case "credit":
            line = invoice.lines.get(code="growth")
            crediting.credit(invoice, {line.pk: amount}, reason="outage", by=by)
        case "adjust":
            row = adjusting.propose(tenant, -amount, code="x", name="Sorry", by=by)
            adjusting.decide(row, approve=True, by=by)
        case "write off":
            conceding.write_off(invoice, amount, by=by, reason="small")
        case "wallet":
            conceding.enter_wallet(tenant, amount=amount, kind="adjustment", by=by)
        case "refund":
            payment = PaymentAllocation.objects.filter(kind="payment")[0].payment
            assert payment is not None
            used = payment.allocations.filter(kind="payment")[0].invoice
            assert used is not None
            payments.release(payment, used, amount, by=by)
            conceding.refund(payment, amount, by=by, reason="as asked")


def given_alone(by: str) -> Decimal:
    """From the books themselves: all that ever went out without a second person."""
    kinds = ["credit", "write_off", "refund"]
    booked = PaymentAllocation.objects.filter(actor=by, kind__in=kinds, amount__gt=0)
    adjusted = Adjustment.objects.filter(proposed_by=by, decided_by=by, state="approved")
    wallet = WalletEntry.objects.filter(created_by=by)
    rows = (*booked, *adjusted, *wallet)
    return sum((abs(row.amount) for row in rows), start=Decimal(0))


@examples(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(acts=ACTS)
def test_no_way_around_the_sum(
    invoices: list[Invoice], acts: list[tuple[str, str, Decimal, int]]
) -> None:
    """Whatever the way and whoever else gave: one operator alone gives a tenant at most the limit
    in any 30 days, counted from the books and not from what was noted."""
    first, second = invoices
    with transaction.atomic():
        pay(first, "49")
        now, given_at = timezone.now(), []
        for act, by, amount, days in acts:
            now += days * DAY
            before = given_alone(by)
            with patch.object(timezone, "now", return_value=now):
                try:
                    with transaction.atomic():
                        give(act, second, amount, by)
                except InvoicingError:
                    continue
            given_at.append((by, now, given_alone(by) - before))
            assert given_at[-1][-1] in {0, amount}
            window = [part for who, at, part in given_at if who == by and at > now - 30 * DAY]
            assert sum(window) <= LIMIT
        transaction.set_rollback(True)


def test_parts_add_up_and_the_message_says_so(invoices: list[Invoice], cast: Cast) -> None:
    first, _ = invoices
    line = first.lines.get(code="growth")
    assert crediting.credit(first, {line.pk: Decimal(30)}, reason="a", by="ada").number
    note = crediting.credit(first, {line.pk: Decimal(11)}, reason="b", by="ada")
    assert note.state == "draft"
    assert crediting.waits_for(note) == (
        "11.00 USD, 41.00 with what was given alone in 30 days, is above 40.00: somebody else than "
        "ada with the right to change credit notes approves it, under credit notes"
    )
    charge = adjusting.propose(cast.acme, Decimal(90), code="x", name="Setup", by="ada")
    assert adjusting.decide(charge, approve=True, by="ada").state == "approved"
    sorry = adjusting.propose(cast.acme, Decimal(-11), code="x", name="Sorry", by="ada")
    with pytest.raises(ApprovalError, match="under adjustments"):
        adjusting.decide(sorry, approve=True, by="ada")
    # What two have looked at is not held against either, and another tenant is another sum.
    crediting.approve_credit(note, by="ben")
    adjusting.decide(sorry, approve=True, by="ben")
    small = adjusting.propose(cast.acme, Decimal(-10), code="x", name="Sorry", by="ada")
    adjusting.decide(small, approve=True, by="ada")
    # What is taken back again was not given.
    adjusting.decide(small, approve=False, by="ada")
    assert conceding.write_off(first, Decimal(8), by="ada", reason="small").state == "given"
    foreign = Invoice.objects.filter(tenant=cast.other)[0]
    assert conceding.write_off(foreign, Decimal(40), by="ada", reason="gone").state == "given"


def test_what_waits_is_booked_by_another(invoices: list[Invoice], cast: Cast) -> None:
    first, second = invoices
    waiting = conceding.write_off(first, by="ada", reason="insolvent")
    assert (waiting.state, state(first)[0]) == ("waiting", "open")
    assert conceding.write_off(first, by="ada", reason="insolvent").pk == waiting.pk
    with pytest.raises(ApprovalError, match="somebody else than ada"):
        approving.approve(waiting, by="ada")
    approving.approve(waiting, by="ben")
    approving.approve(waiting, by="ben")
    assert state(first) == ("written_off", Decimal(0))
    with pytest.raises(InvoicingError, match="cannot be taken back"):
        approving.reject(waiting, by="ada")

    top_up = conceding.enter_wallet(cast.acme, amount=Decimal(41), kind="top_up", by="ada")
    assert top_up is not None
    assert wallet_balance(cast.acme) == 0
    approving.approve(top_up, by="ben")
    assert wallet_balance(cast.acme) == 41
    assert conceding.enter_wallet(cast.acme, amount=Decimal(-1), kind="refund", by="ada") is None

    payment = pay(second, "60")
    # What was overpaid is the customer's; what an open invoice still wants is a gift.
    assert conceding.refund(payment, Decimal(11), by="ben") is None
    payments.release(payment, second, Decimal(49), by="ada")
    gift = conceding.refund(payment, Decimal(49), by="ada", reason="as asked")
    assert gift is not None
    assert (gift.state, gift.amount) == ("waiting", Decimal(49))
    approving.reject(gift, by="ben")
    with pytest.raises(InvoicingError, match="rejected"):
        approving.approve(gift, by="ben")
    assert payments.remainder(payment) == 49


def given(kind: str = "adjustment") -> dict[str, Decimal]:
    """What the list says is given, by what it is of."""
    rows = Concession.objects.filter(kind=kind, state="given")
    return dict(rows.values_list("subject", "amount"))


def test_what_a_void_invoice_credited_is_given_once(invoices: list[Invoice], cast: Cast) -> None:
    """By whatever copy of it, and not at all when that is rejected."""
    credit = adjusting.propose(cast.acme, Decimal(-30), code="c", name="Credit", by="ada")
    adjusting.decide(credit, approve=True, by="ada")
    subject = f"adjustment {credit.pk}"
    close_due_periods(JANUARY)
    finalize_due(JANUARY + timedelta(hours=72))
    billed = Invoice.objects.get(tenant=cast.acme, period_start=DECEMBER)
    crediting.void(billed, reason="another buyer", by="ben")
    again = finalize(draft_again(billed, by="ada"))
    assert again is not None
    assert again.total == 19
    assert given() == {subject: 30}
    crediting.void(again, reason="another buyer", by="cleo")
    last = Adjustment.objects.get(state="proposed")
    adjusting.decide(last, approve=True, by="ada")
    assert given() == {subject: 30}
    adjusting.decide(last, approve=False, by="ben")
    assert given() == {}


def test_a_service_credit_is_given_as_it_comes_out(
    invoices: list[Invoice], cast: Cast, settings: Any
) -> None:
    settings.RELAY_SLA_FACTOR = 10
    one, two = (
        adjusting.propose_sla_credit(
            cast.acme, [(DECEMBER, DECEMBER + days * DAY)], reason="x", origin=f"gap:{days}"
        )[0]
        for days in (1, 2)
    )
    adjusting.decide(one, approve=True, by="ben")
    part = adjusting.decide(two, approve=True, by="ben").amount
    adjusting.decide(one, approve=False, by="ben")
    two.refresh_from_db()
    # What it is worth more now was approved by nobody.
    assert given() == {f"adjustment {two.pk}": -part}
    rest = adjusting.decide(two.tenant.adjustments.get(state="proposed"), approve=True, by="ben")
    assert given() == {f"adjustment {two.pk}": -part, f"adjustment {rest.pk}": -rest.amount}
    assert -part - rest.amount == round(Decimal(49) * 20 / 31, 2)


def test_who_recorded_a_payment_is_not_believed_when_refunding_it(
    invoices: list[Invoice], cast: Cast, settings: Any
) -> None:
    """Also not by way of another payment, which it sets free."""
    first, second = invoices
    genuine = payments.record_payment(
        cast.acme,
        Decimal(98),
        method="usdc",
        reference="chain 1",
        received_at=timezone.now(),
        by="ben",
    )
    payments.allocate(genuine, first, Decimal(49))
    payments.allocate(genuine, second, Decimal(49))
    made_up = pay(first, "10000", "made up")  # by ada
    gift = conceding.refund(made_up, Decimal(10_000), by="ada", reason="overpaid")
    assert gift is not None
    assert (gift.state, gift.amount) == ("waiting", Decimal(10_000))
    approving.reject(gift, by="ben")
    payments.release(genuine, first, Decimal(49), by="ada")
    payments.allocate(made_up, first, by="ada")
    other = conceding.refund(genuine, Decimal(49), by="ada")
    assert other is not None
    assert (other.state, other.amount) == ("waiting", Decimal(49))
    approving.reject(other, by="ben")
    small = conceding.refund(made_up, Decimal(40), by="ada")
    assert small is not None
    assert (small.state, small.amount) == ("given", Decimal(40))
    # Another has looked at it, and so have the days.
    assert conceding.refund(made_up, Decimal(100), by="ben") is None
    later = timezone.now() + settings.RELAY_CREDIT_WINDOW_DAYS * DAY
    with patch.object(timezone, "now", return_value=later):
        assert conceding.refund(made_up, Decimal(100), by="ada") is None


def test_the_admin_asks_and_tells(operator: Client, invoices: list[Invoice], cast: Cast) -> None:
    url = "/admin/billing/invoice/"
    row = {"_selected_action": [invoices[0].pk], "confirmed": "yes"}
    said = {**row, "action": "write_off", "reason": "insolvent"}
    page = operator.post(url, said, follow=True).content.decode()
    assert "49.00 USD is above 40.00: somebody else than op" in page
    form = {"tenant": cast.acme.pk, "kind": "top_up", "amount": "40.01", "reference": "tx"}
    page = operator.post("/admin/billing/walletentry/add/", form).content.decode()
    assert "it waits. 40.01 USD is above 40.00" in page
    waiting = Concession.objects.filter(state="waiting")
    assert sorted(waiting.values_list("kind", flat=True)) == ["wallet", "write_off"]

    url = "/admin/billing/concession/"
    row = {"_selected_action": [one.pk for one in waiting], "confirmed": "yes"}
    page = operator.post(url, {**row, "action": "approve"}, follow=True).content.decode()
    assert "right to change concessions approves it" in page
    second = Client()
    second.force_login(User.objects.create_superuser("ben", password="not used"))
    second.post(url, {**row, "action": "approve"})
    assert (state(invoices[0])[0], wallet_balance(cast.acme)) == ("written_off", Decimal("40.01"))
