"""Money in, money back, and what an invoice's balance is after any of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.invoicing import crediting, payments
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import ApprovalError, InvoicingError, LockedError
from billing.invoicing.locks import lock_period
from billing.invoicing.standing import added_up, settled, stand_of
from billing.models import (
    CreditNote,
    Invoice,
    InvoiceStanding,
    Payment,
    PaymentAllocation,
)
from tests.billing.invoicing.books import DECEMBER, NOVEMBER, PlainBook
from tests.tenants.cast import Cast

GRACE = timedelta(hours=72)
PAID_AT = datetime(2026, 11, 10, tzinfo=UTC)


@pytest.fixture
def invoices(cast: Cast, book: PlainBook) -> list[Invoice]:
    """Acme's of October and November, of 49.00 each."""
    close_due_periods(DECEMBER)
    finalize_due(DECEMBER + GRACE)
    return list(Invoice.objects.filter(tenant=cast.acme).order_by("period_start"))


def pay(
    invoice: Invoice, amount: str, reference: str = "tx 1", *, at: datetime = PAID_AT
) -> Payment:
    return payments.record_payment(
        invoice.tenant,
        Decimal(amount),
        method="bank_transfer",
        reference=reference,
        received_at=at,
        by="ada",
        invoice=invoice,
    )


def state(invoice: Invoice) -> tuple[str, Decimal]:
    row = InvoiceStanding.objects.get(invoice=invoice)
    assert (row.state, row.balance) == stand_of(invoice)
    return row.state, row.balance


def events(invoice: Invoice) -> list[str]:
    return list(invoice.events.values_list("kind", flat=True))


def test_partial_then_over(invoices: list[Invoice]) -> None:
    first, second = invoices
    pay(first, "20")
    assert state(first) == ("partially_paid", Decimal(29))
    over = pay(first, "39", "tx 2")
    assert state(first) == ("paid", Decimal(0))
    assert payments.remainder(over) == Decimal(10)
    payments.allocate(over, second)
    assert state(second) == ("partially_paid", Decimal(39))
    assert payments.remainder(over) == 0
    assert events(first) == ["finalized", "partially_paid", "paid"]


def test_the_same_reference_is_one_payment(invoices: list[Invoice]) -> None:
    first, second = invoices
    assert pay(first, "20") == pay(first, "20")
    assert state(first) == ("partially_paid", Decimal(29))
    with pytest.raises(InvoicingError, match="recorded already"):
        pay(second, "21")


def test_what_is_refused(invoices: list[Invoice], cast: Cast) -> None:
    first, second = invoices
    payment = pay(first, "49")
    for amount in ("0", "-1", "0.001", "NaN", "Infinity"):
        with pytest.raises(InvoicingError, match="no amount"):
            pay(second, amount, "bad")
    with pytest.raises(InvoicingError, match=r"0\.00 of the payment is left"):
        payments.refund(payment, Decimal(1))
    with pytest.raises(InvoicingError, match="of the payment is left"):
        payments.allocate(payment, second, Decimal(1))
    foreign = Invoice.objects.filter(tenant=cast.other)[0]
    with pytest.raises(InvoicingError, match="not an invoice of Acme"):
        payments.allocate(payment, foreign, Decimal(1))
    with pytest.raises(InvoicingError, match="in the future"):
        pay(second, "1", "later", at=timezone.now() + timedelta(days=1))


def test_a_refund_is_of_what_is_left(invoices: list[Invoice]) -> None:
    first, _ = invoices
    payment = pay(first, "60")
    payments.refund(payment, Decimal(11), by="ada", reason="paid too much")
    assert payments.remainder(payment) == 0
    assert state(first) == ("paid", Decimal(0))


def test_a_chargeback_opens_what_it_paid(invoices: list[Invoice]) -> None:
    first, second = invoices
    payment = pay(first, "60")
    payments.allocate(payment, second, Decimal(5))
    payments.charge_back(payment, reason="the bank took it")
    assert payments.charge_back(payment) is None
    assert (state(first), state(second)) == (("open", Decimal(49)), ("open", Decimal(49)))
    assert payments.remainder(payment) == 0
    assert events(first)[-1] == "reopened"


def test_a_chargeback_of_a_part_takes_what_is_free_and_then_the_newest_invoice(
    invoices: list[Invoice],
) -> None:
    first, second = invoices
    payment, other = pay(first, "60"), pay(second, "40", "tx other")
    payments.allocate(payment, second, Decimal(5))  # 6 are for nothing yet
    payments.charge_back(payment, Decimal(8), by="ada", reason="a part")
    assert (state(first)[1], state(second)[1]) == (0, 6)
    assert payments.remainder(payment) == 0
    payments.charge_back(payment, Decimal(13), by="ada", reason="more")
    assert (state(first)[1], state(second)[1]) == (10, 9)
    with pytest.raises(InvoicingError, match=r"39\.00 of the payment is here, not 40"):
        payments.charge_back(payment, Decimal(40))
    with pytest.raises(InvoicingError, match=r"21\.00 of the payment was taken, not 22"):
        payments.give_back(payment, Decimal(22))
    payments.give_back(payment, Decimal(12), by="ada", reason="won")
    assert (state(first)[1], state(second)[1]) == (0, 7)
    payments.give_back(payment, by="ada", reason="won")
    assert (state(first)[1], state(second)[1]) == (0, 4)
    assert payments.remainder(payment) == 6
    assert payments.remainder(other) == 0


def test_a_chargeback_finds_what_was_allocated_before_it_had_the_locks(
    invoices: list[Invoice],
) -> None:
    first, second = invoices
    payment = pay(first, "60")
    seen: list[str] = []

    def allocate_meanwhile(execute: Any, sql: str, *rest: Any) -> Any:
        # After the first look at anything.
        if sql.startswith("SELECT"):
            seen.append(sql)
            if len(seen) == 2:
                payments.allocate(payment, second, Decimal(5))
        return execute(sql, *rest)

    with connection.execute_wrapper(allocate_meanwhile):
        payments.charge_back(payment)
    assert (state(first), state(second)) == (("open", Decimal(49)), ("open", Decimal(49)))
    assert payments.remainder(payment) == 0


def test_written_off_and_paid_after_all(invoices: list[Invoice]) -> None:
    first, _ = invoices
    pay(first, "9")
    payments.write_off(first, by="ada", reason="insolvent")
    assert state(first) == ("written_off", Decimal(0))
    late = payments.record_payment(
        first.tenant, Decimal(15), method="usdc", reference="0x1", received_at=PAID_AT
    )
    payments.allocate(late, first, Decimal(15))
    assert state(first) == ("written_off", Decimal(0))
    assert added_up(PaymentAllocation.objects.filter(kind="write_off")) == Decimal(25)


def test_a_credit_frees_what_was_paid(invoices: list[Invoice]) -> None:
    first, _ = invoices
    payment = pay(first, "49")
    line = first.lines.get(code="growth")
    note = crediting.credit(first, {line.pk: Decimal("9.00")}, reason="outage", by="ada")
    assert note.number == f"CN-{timezone.now():%Y}-000001"
    assert state(first) == ("paid", Decimal(0))
    assert payments.remainder(payment) == Decimal(9)
    with pytest.raises(InvoicingError, match=r"40\.00 can be credited"):
        crediting.credit(first, {line.pk: Decimal("40.01")}, reason="more", by="ada")
    rest = crediting.credit(first, reason="all of it", by="ada")
    assert rest.total == Decimal(40)
    assert payments.remainder(payment) == Decimal(49)
    with pytest.raises(InvoicingError, match="can be credited"):
        crediting.credit(first, reason="again", by="ada")


def test_a_credit_gives_back_what_was_prepaid(cast: Cast, book: PlainBook) -> None:
    book.wallets[cast.acme.pk] = Decimal(30)
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + GRACE)
    invoice = Invoice.objects.get(tenant=cast.acme)
    assert invoice.due == Decimal(19)
    crediting.credit(invoice, reason="never served", by="ada")
    assert state(invoice) == ("paid", Decimal(0))
    assert book.wallets[cast.acme.pk] == Decimal(30)


def test_void_is_for_what_nobody_paid(invoices: list[Invoice]) -> None:
    first, second = invoices
    crediting.void(first, reason="wrong plan", by="ada")
    assert state(first) == ("voided", Decimal(0))
    with pytest.raises(InvoicingError, match="void already"):
        crediting.credit(first, reason="again", by="ada")
    payment = pay(second, "10")
    with pytest.raises(InvoicingError, match="is void"):
        payments.allocate(payment, first, Decimal(1))
    with pytest.raises(InvoicingError, match=r"10\.00 .* is paid"):
        crediting.void(second, reason="wrong plan", by="ada")
    payments.release(payment, second, Decimal(10), by="ada")
    crediting.void(second, reason="wrong plan", by="ada")
    assert state(second) == ("voided", Decimal(0))


def test_a_large_credit_needs_a_second_person(invoices: list[Invoice], settings: object) -> None:
    settings.RELAY_CREDIT_LIMIT = 40  # type: ignore[attr-defined]
    first, second = invoices
    note = crediting.credit(first, reason="outage", by="ada")
    assert (note.state, note.number, state(first)[0]) == ("draft", None, "open")
    with pytest.raises(InvoicingError, match=r"0\.00 .* can be credited"):
        crediting.credit(first, reason="twice", by="ada")
    with pytest.raises(ApprovalError, match="somebody else"):
        crediting.approve_credit(note, by="ada")
    crediting.approve_credit(note, by="ben")
    crediting.approve_credit(note, by="ben")
    assert state(first) == ("paid", Decimal(0))
    other = crediting.credit(second, reason="outage", by="ada")
    crediting.reject_credit(other, by="ben")
    with pytest.raises(InvoicingError, match="rejected"):
        crediting.approve_credit(other, by="ben")
    assert CreditNote.objects.filter(number=None).count() == 1


def test_nothing_is_booked_in_a_locked_period(invoices: list[Invoice]) -> None:
    first, _ = invoices
    lock_period(datetime(2026, 11, 20, tzinfo=UTC), by="ada", reason="November's books")
    with pytest.raises(LockedError, match="until when the books are locked"):
        pay(first, "10")
    with pytest.raises(InvoicingError, match="never moves back"):
        lock_period(datetime(2026, 11, 19, tzinfo=UTC), by="ada", reason="oops")
    pay(first, "10", at=datetime(2026, 11, 20, tzinfo=UTC))


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("pay", "allocate", "release", "refund", "chargeback", "won"),
                *("write_off", "credit", "void"),
            ]
        ),
        st.integers(0, 1),
        st.integers(1, 6000),
        st.integers(0, 3),
    ),
    max_size=8,
)


# Without `explain`, whose tracing makes each example many times slower.
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(acts=ACTS)
def test_in_any_order_sums_hold(
    invoices: list[Invoice], acts: list[tuple[str, int, int, int]]
) -> None:
    """No payment is used beyond its amount, no invoice settled below 0; balance and standing are
    what the rows add up to; money in is money on invoices, money out and money left."""
    with transaction.atomic():
        known: list[Payment] = []
        for n, (act, which, cents, of) in enumerate(acts):
            invoice, amount = invoices[which], Decimal(cents) / 100
            payment = known[of % len(known)] if known else None
            try:
                if act == "pay":
                    known.append(pay(invoice, str(amount), f"tx {n}"))
                elif act == "write_off":
                    payments.write_off(invoice, amount, by="ada", reason="lost")
                elif act == "credit":
                    line = invoice.lines.get(code="growth")
                    crediting.credit(invoice, {line.pk: amount}, reason="bad", by="ada")
                elif act == "void":
                    crediting.void(invoice, reason="wrong", by="ada")
                elif payment is None:
                    continue
                elif act == "allocate":
                    payments.allocate(payment, invoice, amount)
                elif act == "release":
                    payments.release(payment, invoice, amount)
                elif act == "refund":
                    payments.refund(payment, amount)
                elif act == "won":
                    payments.give_back(payment, amount if cents % 2 else None)
                else:
                    payments.charge_back(payment, amount if cents % 2 else None)
            except InvoicingError:
                continue
        for payment in known:
            assert 0 <= payments.remainder(payment) <= payment.amount
        for invoice in invoices:
            _, balance = state(invoice)
            assert 0 <= balance <= invoice.due
            rows = PaymentAllocation.objects.filter(invoice=invoice, payment__isnull=False)
            assert added_up(rows) >= 0
            credited = sum(note.total for note in invoice.credit_notes.filter(state="issued"))
            assert credited <= invoice.total
        transaction.set_rollback(True)


def test_what_is_credited_is_no_loss(invoices: list[Invoice]) -> None:
    (invoice, _) = invoices
    payments.write_off(invoice, Decimal("0.01"), by="ada", reason="too small")
    crediting.void(invoice, reason="wrong customer", by="ada")
    assert state(invoice) == ("voided", Decimal(0))
    assert settled(invoice, PaymentAllocation.Kind.WRITE_OFF) == 0
