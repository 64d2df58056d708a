"""A yearly plan is invoiced after its year: nothing of it is deferred, and what was paid ahead is
in the wallet until then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from billing.catalogue import services, wallet
from billing.exports import deferred, journal, summary, wallets
from billing.exports.accounts import Account, movements
from billing.exports.scope import Scope
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.models import Invoice, WalletEntry
from tests.billing.catalogue.books import make_tenant, publish_book

BEGAN, ENDED = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
EVER = Scope(datetime(2020, 1, 1, tzinfo=UTC), datetime(2900, 1, 1, tzinfo=UTC))


def test_a_prepaid_year_is_a_wallet_and_then_revenue(db: None) -> None:
    tenant = make_tenant()
    services.subscribe(tenant, plan=publish_book()["year"], now=BEGAN)
    wallet.enter(tenant, amount=Decimal(4_000), kind=WalletEntry.Kind.TOP_UP)
    close_due_periods(ENDED - timedelta(seconds=1))
    assert not Invoice.objects.exists()
    assert list(deferred.rows(EVER)) == []
    assert [row[-1] for row in wallets.rows(EVER)] == [Decimal(4_000)]

    close_due_periods(ENDED)
    assert finalize_due(ENDED + timedelta(hours=72)) == (1, 0)
    invoice = Invoice.objects.get()
    assert (invoice.total, invoice.prepaid, invoice.due) == (3_650, 3_650, 0)
    assert list(deferred.rows(EVER)) == []
    assert [row[-1] for row in wallets.rows(EVER)] == [Decimal(350)]
    moved = movements(journal.entries(Scope(ENDED, datetime(2027, 2, 1, tzinfo=UTC))))
    assert moved[Account.SUBSCRIPTIONS] == -3_650
    assert Account.DEFERRED not in movements(journal.entries(EVER))
    assert all(check.is_equal for check in summary.checks(EVER, with_ledger=False))
