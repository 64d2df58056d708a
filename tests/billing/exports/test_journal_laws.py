"""Whatever is done: debits are credits, and receivables are what is open, at any date."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.catalogue import wallet
from billing.exports import balances, catalogue, journal, summary
from billing.exports.accounts import Account, movements, revenue_account
from billing.exports.scope import Scope
from billing.invoicing import adjusting, crediting, draft, finalize, parties, payments
from billing.invoicing.errors import InvoicingError
from billing.invoicing.late import LATE_USAGE
from billing.models import Invoice, InvoiceStanding, Payment, PaymentAllocation, Wallet
from billing.rating.invoice import Tax
from tests.billing.exports.conftest import close
from tests.billing.invoicing.books import NOVEMBER
from tests.tenants.cast import Cast

PAID_AT = datetime(2026, 11, 10, tzinfo=UTC)
ALL = Scope(datetime(2020, 1, 1, tzinfo=UTC), datetime(2900, 1, 1, tzinfo=UTC))
_acts = count(1)

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                *("pay", "allocate", "release", "refund", "chargeback", "won", "write_off"),
                *("credit", "void", "top_up", "sent_back", "expiry", "charge", "give"),
            )
        ),
        st.integers(0, 5),
        st.integers(1, 6000),
        st.integers(0, 3),
    ),
    max_size=9,
)


def one_off(invoice: Invoice, amount: Decimal) -> Any:
    """A one-off invoice of `amount`, or in the customer's favour."""
    row = adjusting.propose(
        invoice.tenant, amount, code="x", name="Work", source="one_off", by="ada"
    )
    adjusting.decide(row, approve=True, by="ben")
    return finalize.finalize(draft.draft_one_off(invoice.tenant))


def act(what: str, invoice: Invoice, amount: Decimal, payment: Payment | None) -> Any:
    """Do one thing."""
    tenant = invoice.tenant
    match what:
        case "pay":
            return payments.record_payment(
                *(tenant, amount),
                method=("usdc", "card")[amount < 30],
                reference=f"tx {next(_acts)}",
                received_at=PAID_AT,
                invoice=invoice,
            )
        case "write_off":
            return payments.write_off(invoice, amount, by="ada", reason="lost")
        case "credit":
            line = invoice.lines.order_by("-amount")[0]
            return crediting.credit(invoice, {line.pk: amount}, reason="bad", by="ada")
        case "void":
            return crediting.void(invoice, reason="wrong", by="ada")
        case "top_up":
            return wallet.enter(tenant, amount=amount, kind="top_up")
        case "sent_back":
            return wallet.enter(tenant, amount=-amount, kind="refund")
        case "expiry":
            return wallet.enter(tenant, amount=-amount, kind="expiry")
        case "charge":
            return one_off(invoice, amount)
        case "give":
            return one_off(invoice, -amount)
    if payment is None:
        return None
    match what:
        case "allocate":
            return payments.allocate(payment, invoice, amount)
        case "release":
            return payments.release(payment, invoice, amount)
        case "refund":
            return payments.refund(payment, amount)
        case "won":
            return payments.give_back(payment, amount if amount < 30 else None)
    return payments.charge_back(payment, amount if amount < 30 else None)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(acts=ACTS, when=st.integers(0, 9))
def test_the_books_balance_after_any_acts(
    cast: Cast, october: Invoice, acts: list[tuple[str, int, int, int]], when: int
) -> None:
    with transaction.atomic():
        moments = [PAID_AT]
        for what, which, cents, of in acts:
            known = list(Invoice.objects.finalized().filter(tenant=cast.acme).order_by("pk"))
            paid = list(Payment.objects.order_by("pk"))
            try:
                with transaction.atomic():
                    act(
                        what,
                        known[which % len(known)],
                        Decimal(cents) / 100,
                        paid[of % len(paid)] if paid else None,
                    )
            except (InvoicingError, ValidationError):
                continue
            moments.append(timezone.now())
        check_laws(moments[when % len(moments)])
        transaction.set_rollback(True)


def check_laws(at: datetime) -> None:
    """Of the whole time, and of a part of it."""
    entries = list(journal.entries(ALL))
    assert all(entry.is_balanced for entry in entries)
    assert len({entry.id for entry in entries}) == len(entries)
    moved = movements(entries)
    assert sum(moved.values()) == 0
    standings = InvoiceStanding.objects.values_list("balance", flat=True)
    zero = Decimal(0)
    assert moved.get(Account.RECEIVABLES, zero) == sum(standings)
    assert moved.get(Account.WALLETS, zero) == -sum(
        Wallet.objects.values_list("balance", flat=True)
    )
    left = sum(payments.remainder(payment) for payment in Payment.objects.all())
    assert moved.get(Account.UNAPPLIED, zero) == -left
    lost = PaymentAllocation.objects.filter(kind="write_off").values_list("amount", flat=True)
    assert moved.get(Account.BAD_DEBT, zero) == sum(lost)
    assert moved.get(Account.WALLET_TRANSFERS, zero) == 0
    assert moved.get(Account.INVOICE_TRANSFERS, zero) == 0
    until = movements(journal.entries(Scope(ALL.start, at)))
    assert until.get(Account.RECEIVABLES, zero) == sum(row.balance for row in balances.open_at(at))
    for scope in (ALL, Scope(ALL.start, at), Scope(at, ALL.end)):
        wrong = [check for check in summary.checks(scope, with_ledger=False) if not check.is_equal]
        assert not wrong


def test_tax_and_revenue_are_where_they_belong(cast: Cast, book: object, monkeypatch: Any) -> None:

    monkeypatch.setattr(parties, "tax_of", lambda _: Tax("VAT", Decimal(20)))
    wallet.enter(cast.acme, amount=Decimal(10), kind="top_up")
    close(NOVEMBER)
    invoice = Invoice.objects.get(tenant=cast.acme)
    entry = next(row for row in journal.sales(ALL) if row.document == invoice.number)
    assert dict(entry.postings) == {
        "receivables": Decimal("48.80"),
        "wallet_transfers": Decimal("10.00"),
        "revenue_subscriptions": Decimal("-49.00"),
        "tax_payable": Decimal("-9.80"),
    }
    crediting.credit(invoice, reason="never served", by="ada")
    (credited,) = journal.credits(ALL)
    assert dict(credited.postings) == {
        "sales_returns": Decimal("49.00"),
        "tax_payable": Decimal("9.80"),
        "receivables": Decimal("-58.80"),
    }
    check_laws(PAID_AT)
    rows = list(catalogue.EXPORTS["tax_summary"].rows(ALL))
    # Acme's was credited; the other tenant's is left.
    assert [row[4:7] for row in rows] == [(3, Decimal("49.00"), Decimal("9.80"))]


def test_late_usage_is_usage() -> None:
    assert revenue_account("adjustment", LATE_USAGE) is Account.USAGE
    assert revenue_account("adjustment", "sla-credit") is Account.ONE_OFF
