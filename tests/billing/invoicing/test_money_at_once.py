"""Several operators and beats move the money of one tenant at the same moment, and some of it is
rolled back: nobody sees an error of the database, and the books tie."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from billing.catalogue import wallet
from billing.invoicing import (
    adjusting,
    again,
    conceding,
    crediting,
    draft,
    dunning,
    finalize,
    payments,
    reconcile,
)
from billing.invoicing.again import draft_again
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.errors import InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import TRIES, is_contention, retried
from billing.invoicing.standing import lock_standing
from billing.models import Invoice, InvoiceStanding, Payment, WalletEntry
from billing.payments import attempts
from tenants.models import Tenant
from tests.billing.invoicing.books import NOVEMBER, OCTOBER, PlainBook
from tests.billing.invoicing.test_once_and_gapless import Rollback, in_threads
from tests.tenants.cast import Cast

PAID_AT = datetime(2026, 11, 10, tzinfo=UTC)
LATER = datetime(2027, 6, 1, tzinfo=UTC)
THREADS, ACTS = 6, 25
HOUR = timedelta(hours=1)


class WalletBook(PlainBook):
    """Plain terms, and the wallets that there are."""

    def wallet_balance(self, tenant: Tenant) -> Decimal:
        return wallet.wallet_balance(tenant)

    def refill_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        wallet.enter(tenant, amount=amount, kind="refund", reference=reference)

    def spend_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        wallet.enter(tenant, amount=-amount, kind="spend", reference=reference)


@pytest.fixture
def many(committed_cast: Cast, settings: Any) -> Any:
    """Acme with six invoices and two drafts; somebody else beside it."""
    from billing.invoicing import terms_port

    settings.RELAY_CREDIT_LIMIT = 10**6
    with terms_port.use(WalletBook()):
        conceding.enter_wallet(committed_cast.acme, amount=Decimal(60), kind="top_up", by="ada")
        close_due_periods(datetime(2027, 6, 1, tzinfo=UTC))
        finalize_due(datetime(2027, 4, 5, tzinfo=UTC))
        InvoiceStanding.objects.update(sent_at=NOVEMBER)
        yield committed_cast


class Desk:
    """One who works: chooses what to do and what for."""

    def __init__(self, tenant: Tenant, n: int) -> None:
        self.tenant, self.by, self.chance, self.count = tenant, f"op{n}", random.Random(n), 0

    def amount(self) -> Decimal:
        return Decimal(self.chance.randrange(1, 6_000)) / 100

    def invoice(self) -> Invoice:
        return self.chance.choice(list(Invoice.objects.finalized().filter(tenant=self.tenant)))

    def payment(self) -> Payment:
        rows = list(Payment.objects.filter(tenant=self.tenant))
        if not rows:
            raise InvoicingError("nothing was paid")
        return self.chance.choice(rows)

    def pay(self) -> object:
        self.count += 1
        return payments.record_payment(
            self.tenant,
            self.amount(),
            method="usdc",
            reference=f"{self.by} {self.count}",
            received_at=PAID_AT,
            by=self.by,
            invoice=self.invoice(),
        )

    def credit(self) -> object:
        invoice = self.invoice()
        # A one-off has no fee, and its first line may be a credit.
        line = self.chance.choice(list(invoice.lines.all()))
        amount = round(self.amount() / 10, 2)
        return crediting.credit(invoice, {line.pk: amount}, reason="bad", by=self.by)

    def settle(self) -> object:
        draft_ = Invoice.objects.filter(tenant=self.tenant, state="draft").order_by("period_start")
        for row in draft_:
            return finalize.finalize(row, by=self.by, now=LATER)
        return draft.draft_one_off(self.tenant)

    def adjust(self) -> object:
        row = adjusting.propose(self.tenant, -self.amount(), code="x", name="Sorry", by=self.by)
        return adjusting.decide(row, approve=True, by=self.by)

    def again(self) -> object:
        """Another in place of a void one, or none after all."""
        void = Invoice.objects.filter(tenant=self.tenant, standing__state="voided")
        drafts = Invoice.objects.filter(replacement_of__replaces__in=void, state="draft")
        for row in drafts if self.chance.random() < 0.5 else ():
            return finalize.discard(row, by=self.by)
        return draft_again(self.chance.choice(list(void)), by=self.by) if void else None

    def miss(self) -> object:
        """Be without service for some hours."""
        start = OCTOBER + self.chance.randrange(4_000) * HOUR
        origin = f"{self.by} {start}"
        windows = [(start, start + self.chance.randrange(1, 40) * HOUR)]
        found = adjusting.propose_sla_credit(self.tenant, windows, reason="x", origin=origin)
        return [adjusting.decide(row, approve=True, by=self.by) for row in found]

    def dun(self) -> object:
        return dunning.mark_overdue(LATER) + dunning.dun(LATER)

    def charge(self) -> object:
        return attempts.begin(self.invoice(), "stripe", by=self.by)

    def act(self) -> object:
        ways: list[Callable[[], object]] = [
            self.pay,
            self.credit,
            self.settle,
            self.adjust,
            self.again,
            self.miss,
            self.dun,
            self.charge,
            lambda: payments.allocate(self.payment(), self.invoice(), by=self.by),
            lambda: payments.release(self.payment(), self.invoice(), self.amount(), by=self.by),
            lambda: payments.charge_back(self.payment(), by=self.by),
            lambda: conceding.refund(self.payment(), self.amount(), by=self.by),
            lambda: conceding.write_off(self.invoice(), self.amount(), by=self.by, reason="lost"),
            lambda: crediting.void(self.invoice(), reason="wrong", by=self.by),
            lambda: conceding.enter_wallet(
                self.tenant, amount=self.amount(), kind="adjustment", by=self.by
            ),
        ]
        return self.chance.choice(ways)()


def test_nobody_waits_for_each_other(many: Cast) -> None:
    """What deadlocks is begun again before anybody sees it. Some acts are rolled back at their end,
    with all that they held."""
    done: list[str] = []

    def work(n: int) -> None:
        desk = Desk(many.acme if n else many.other, n)

        @retried
        def turn(gives_up: bool) -> None:
            with transaction.atomic():
                desk.act()
                if gives_up:
                    raise Rollback

        for _ in range(ACTS):
            try:
                if desk.chance.random() < 0.5:
                    desk.act()
                else:
                    turn(desk.chance.random() < 0.5)
                done.append(desk.by)
            except (InvoicingError, Rollback):
                continue

    in_threads(work, THREADS)
    assert len(done) > THREADS * ACTS / 4
    assert list(reconcile.reconcile_invoices()) == []
    for payment in Payment.objects.all():
        assert 0 <= payments.remainder(payment) <= payment.amount
    for tenant in (many.acme, many.other):
        rows = WalletEntry.objects.filter(tenant=tenant)
        assert wallet.wallet_balance(tenant) == sum(row.amount for row in rows)
        # What is in favour is set off before anything is open.
        balances = InvoiceStanding.objects.filter(invoice__tenant=tenant)
        signs = {row.balance > 0 for row in balances if row.balance}
        assert len(signs) <= 1


# --- again ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [0, 1, TRIES - 1, TRIES])
def test_a_whole_transaction_is_begun_again(
    fails: int, monkeypatch: pytest.MonkeyPatch, committed_cast: Cast
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    tried = 0

    @retried
    @transaction.atomic
    def act() -> str:
        nonlocal tried
        tried += 1
        Tenant.objects.filter(pk=committed_cast.acme.pk).update(name=f"Acme {tried}")
        if tried <= fails:
            raise OperationalError(1213, "Deadlock found")
        return "done"

    if fails == TRIES:
        with pytest.raises(OperationalError, match="Deadlock"):
            act()
    else:
        assert act() == "done"
    assert tried == min(fails + 1, TRIES)
    committed_cast.acme.refresh_from_db()
    assert committed_cast.acme.name == ("Acme" if fails == TRIES else f"Acme {tried}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["draft_again", "discard", "propose_sla_credit"])
def test_what_a_void_invoice_asks_for_is_begun_again(
    name: str, monkeypatch: pytest.MonkeyPatch, many: Cast
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    wrong = Invoice.objects.finalized().filter(tenant=many.acme).order_by("-period_start")[0]
    crediting.void(wrong, reason="wrong", by="ada")
    place = draft_again(wrong, by="ada") if name == "discard" else wrong
    windows = [(OCTOBER, OCTOBER + HOUR)]
    acts: dict[str, tuple[Any, Callable[[], object]]] = {
        "draft_again": (again, lambda: draft_again(wrong, by="ada")),
        "discard": (finalize, lambda: finalize.discard(place, by="ada")),
        "propose_sla_credit": (
            adjusting,
            lambda: adjusting.propose_sla_credit(many.acme, windows, reason="x", origin="gap:1"),
        ),
    }
    module, act = acts[name]
    tried: list[int] = []

    def contended(tenant_id: int) -> Any:
        tried.append(tenant_id)
        if len(tried) == 1:
            raise OperationalError(1213, "Deadlock found")
        return lock_cursor(tenant_id)

    monkeypatch.setattr(module, "lock_cursor", contended)
    act()
    assert len(tried) >= 2


@pytest.mark.django_db(transaction=True)
def test_never_within_another_nor_for_another_reason(committed_cast: Cast) -> None:
    tried: list[int] = []

    @retried
    def act(code: int) -> None:
        tried.append(code)
        raise OperationalError(code, "no")

    with pytest.raises(OperationalError), transaction.atomic():
        act(1213)
    with pytest.raises(OperationalError):
        act(2006)
    assert tried == [1213, 2006]


def test_a_deadlock_is_one_and_is_outlived(many: Cast) -> None:
    """Two transactions that lock two tenants in opposite orders: the database refuses one, and it
    is begun again."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first, second = (
        Invoice.objects.finalized().filter(tenant=tenant)[0] for tenant in (many.acme, many.other)
    )
    both, refused = threading.Barrier(2), []

    def work(n: int) -> None:
        tried = 0

        @retried
        @transaction.atomic
        def act() -> None:
            nonlocal tried
            tried += 1
            one, other = (first, second) if n else (second, first)
            lock_standing(one)
            if tried == 1:
                both.wait(30)
            try:
                lock_standing(other)
            except OperationalError as error:
                refused.append(is_contention(error))
                raise

        act()

    in_threads(work, 2)
    assert refused == [True]


def test_the_page_says_try_again(
    operator: Any, many: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should it be refused again and again, the operator reads a line and not a page of errors."""

    def refuse(*args: object, **options: object) -> None:
        raise OperationalError(1205, "Lock wait timeout exceeded")

    monkeypatch.setattr(conceding, "write_off", refuse)
    row = Invoice.objects.finalized().filter(tenant=many.acme)[0]
    said = {"action": "write_off", "_selected_action": [row.pk], "confirmed": "yes", "reason": "x"}
    page = operator.post("/admin/billing/invoice/", said, follow=True).content.decode()
    assert "nothing was booked, try again" in page
