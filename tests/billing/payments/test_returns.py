"""Money that goes back: booked once, in any order, and what the books refuse waits."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.utils import timezone

from billing.invoicing import crediting, payments
from billing.invoicing.errors import InvoicingError
from billing.models import Invoice, InvoiceStanding, Payment, PaymentAllocation, ProviderReturn
from billing.payments import charging, events, returns
from billing.payments.provider import PaymentProvider
from tests.billing.payments.conftest import Post, later
from tests.support.fake_stripe import FakeStripe


@pytest.fixture
def paid(provider: PaymentProvider, invoice: Invoice, post: Post) -> Payment:
    charging.run_due(provider)
    post.bring()
    return Payment.objects.get()


def balance(invoice: Invoice) -> Decimal:
    return InvoiceStanding.objects.get(invoice=invoice).balance


def booked(kind: str) -> list[Decimal]:
    return list(PaymentAllocation.objects.filter(kind=kind).values_list("amount", flat=True))


def in_books() -> int:
    """Cents that payments of the provider's come to, less what went back."""
    back = [*booked("refund"), *booked("chargeback")]
    return int(100 * (sum(p.amount for p in Payment.objects.all()) - sum(back)))


def test_a_refund_on_the_providers_pages_waits_for_a_credit(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    fake.send_back(paid.reference, 4900)
    post.bring()
    row = ProviderReturn.objects.get()
    assert row.booked_at is None
    assert "credit the invoice first" in row.error
    assert balance(invoice) == 0
    crediting.credit(invoice, by="ben", reason="not wanted")
    events.process_due(provider)
    row.refresh_from_db()
    assert row.booked_at is not None
    assert booked("refund") == [Decimal(49)]
    assert in_books() == fake.taken() == 0


@pytest.mark.parametrize("fault", ["", "lost after", "500 after", "lost before"])
def test_a_refund_of_ours_is_sent_once(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    paid: Payment,
    post: Post,
    fault: str,
) -> None:
    with pytest.raises(InvoicingError, match="credit the invoice"):
        returns.send_back(provider, paid, Decimal(49), by="ben")
    crediting.credit(invoice, by="ben", reason="not wanted")
    fake.faults.append(fault)
    row = returns.send_back(provider, paid, Decimal(20), by="ben")
    with pytest.raises(InvoicingError):
        returns.send_back(provider, paid, Decimal(30), by="ben")
    post.bring()
    row.refresh_from_db()
    assert row.booked_at is not None
    events.process_due(provider)
    assert booked("refund") == [Decimal(20)]
    assert len(fake.refunds) == ProviderReturn.objects.count() == 1
    assert in_books() == fake.taken() == 2900


def test_a_refund_that_fails_is_money_again(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    crediting.credit(invoice, by="ben", reason="not wanted")
    row = returns.send_back(provider, paid, Decimal(49), by="ben")
    fake.fail_refund(row.reference or "")
    post.bring()
    post.bring()
    assert in_books() == fake.taken() == 4900
    assert payments.remainder(Payment.objects.exclude(pk=paid.pk).get()) == 49


@pytest.mark.parametrize("is_won", [False, True])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_dispute(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    paid: Payment,
    post: Post,
    is_won: bool,
    is_late: bool,
) -> None:
    """The invoice is open again, and is not charged again by itself; won, it is paid again. Who
    hears of it only when it is over sees the end."""
    dispute = fake.dispute(paid.reference)
    if not is_late:
        post.bring()
        assert booked("chargeback") == [Decimal(49)]
        assert balance(invoice) == 49
        later(provider, days=9)
        assert len(fake.intents) == 1
    fake.end_dispute(dispute, is_won=is_won)
    post.bring()
    events.process_due(provider)
    assert balance(invoice) == (0 if is_won else 49)
    assert in_books() == fake.taken() == (4900 if is_won else 0)


@pytest.mark.parametrize("is_won", [False, True])
def test_a_dispute_of_a_part_opens_a_part(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    paid: Payment,
    post: Post,
    is_won: bool,
) -> None:
    dispute = fake.dispute(paid.reference, 1000)
    post.bring()
    assert ProviderReturn.objects.get().booked_at is not None
    assert booked("chargeback") == [Decimal(10)]
    assert balance(invoice) == 10
    assert in_books() == fake.taken() == 3900
    fake.end_dispute(dispute, is_won=is_won)
    post.bring()
    events.process_due(provider)
    assert balance(invoice) == (0 if is_won else 10)
    assert in_books() == fake.taken() == (4900 if is_won else 3900)


@pytest.mark.parametrize("is_won", [False, True])
@pytest.mark.parametrize("changes", [(2000,), (400,), (2000, 400), (400, 2000)])
def test_a_dispute_whose_amount_changes_is_booked_as_it_is(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    paid: Payment,
    post: Post,
    changes: tuple[int, ...],
    is_won: bool,
) -> None:
    """Each change once, however often it is told; won, as much comes back as was taken."""
    dispute = fake.dispute(paid.reference, 1000)
    post.bring()
    for cents in changes:
        fake.change_dispute(dispute, cents)
        post.bring()
        fake.tell("charge.dispute.updated", fake.disputes[dispute])
        post.bring()
        assert balance(invoice) == Decimal(cents) / 100
        assert in_books() == fake.taken() == 4900 - cents
    fake.end_dispute(dispute, is_won=is_won)
    post.bring()
    assert ProviderReturn.objects.get().error == ""
    assert balance(invoice) == (0 if is_won else Decimal(changes[-1]) / 100)
    assert in_books() == fake.taken()


def test_a_dispute_that_is_won_with_another_amount_gives_back_what_it_took(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    dispute = fake.dispute(paid.reference, 1000)
    post.bring()
    fake.disputes[dispute]["amount"] = 2000
    fake.end_dispute(dispute, is_won=True)
    post.bring()
    assert balance(invoice) == 0
    assert in_books() == fake.taken() == 4900


def test_a_dispute_of_more_than_is_here_says_so_and_stays_as_it_was(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    dispute = fake.dispute(paid.reference, 1000)
    post.bring()
    fake.change_dispute(dispute, 9900)
    post.bring()
    row = ProviderReturn.objects.get()
    assert (row.amount, balance(invoice)) == (10, 10)
    assert "of the payment is here" in row.error
    fake.end_dispute(dispute, is_won=True)
    post.bring()
    assert balance(invoice) == 0
    assert ProviderReturn.objects.get().error == ""


def test_two_disputes_of_parts_are_two(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    first = fake.dispute(paid.reference, 1000)
    fake.dispute(paid.reference, 500)
    post.bring()
    assert balance(invoice) == 15
    fake.end_dispute(first, is_won=True)
    post.bring()
    assert balance(invoice) == 5
    assert in_books() == fake.taken() == 4400


@pytest.mark.parametrize(("disputed", "opened"), [(10, 10), (29, 29), (39, 29)])
def test_a_refund_under_way_keeps_what_is_left_for_it(
    provider: PaymentProvider,
    fake: FakeStripe,
    invoice: Invoice,
    paid: Payment,
    post: Post,
    disputed: int,
    opened: int,
) -> None:
    """A dispute takes from it only what the invoice does not have."""
    line = invoice.lines.get(code="growth")
    crediting.credit(invoice, {line.pk: Decimal(20)}, by="ben", reason="not wanted")
    returns.begin(paid, Decimal(20), by="ben")
    fake.dispute(paid.reference, 100 * disputed)
    post.bring()
    assert booked("chargeback") == [Decimal(disputed)]
    assert balance(invoice) == opened
    if disputed == opened:
        assert booked("refund") == [Decimal(20)]
        assert payments.remainder(paid) == 0
        assert in_books() == fake.taken() == 100 * (29 - disputed)
    else:  # it was sent before anybody heard, and is more than is left
        assert booked("refund") == []
        assert payments.remainder(paid) == 10


def test_a_dispute_won_before_payments_were_given_back_is_not_given_back_again(
    fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    """It was booked as a payment of its own then, and its chargeback stayed."""
    dispute = fake.dispute(paid.reference)
    post.bring()
    at = timezone.now()
    ProviderReturn.objects.update(state=ProviderReturn.State.UNDONE, undone_at=at)
    payments.record_payment(
        invoice.tenant,
        Decimal(49),
        method="card",
        reference=f"{dispute} undone",
        received_at=at,
        invoice=invoice,
    )
    fake.end_dispute(dispute, is_won=True)
    post.bring()
    for amount in (None, Decimal(49), Decimal("0.01")):
        with pytest.raises(InvoicingError, match="nothing of the payment was taken"):
            payments.give_back(paid, amount, by="ben")
    assert balance(invoice) == 0
    assert in_books() == fake.taken() == 4900


def test_a_dispute_won_since_hides_no_other_chargeback(
    fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    dispute = fake.dispute(paid.reference, 1000)
    post.bring()
    payments.charge_back(paid, Decimal(5), by="ben", reason="by hand")
    fake.end_dispute(dispute, is_won=True)
    post.bring()
    payments.give_back(paid, by="ben", reason="all that is left")
    assert sum(booked("chargeback")) == 0
    assert balance(invoice) == 0
    with pytest.raises(InvoicingError, match="nothing of the payment was taken"):
        payments.give_back(paid, by="ben")


def test_what_was_paid_otherwise_meanwhile_is_for_nothing_yet(
    provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, paid: Payment, post: Post
) -> None:
    dispute = fake.dispute(paid.reference, 1000)
    post.bring()
    payments.record_payment(
        invoice.tenant,
        Decimal(10),
        method="usdc",
        reference="tx",
        received_at=paid.received_at,
        invoice=invoice,
    )
    fake.end_dispute(dispute, is_won=True)
    post.bring()
    assert balance(invoice) == 0
    assert payments.remainder(paid) == 10
