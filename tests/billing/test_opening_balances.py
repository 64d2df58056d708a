"""A database from before the ledger: what was counted becomes its first entries."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from billing.metering import chain
from billing.metering.reconcile import reconcile
from billing.models import (
    Account,
    CoinRollup,
    DailyRollup,
    LedgerEntry,
    MonthlyRollup,
    UsageBatch,
)
from tenants import services
from tests.billing.usage import HOUR, use
from tests.tenants.cast import Cast

BEFORE = [("billing", "0001_usage_batches_and_rollups")]


def migrate(targets: list[tuple[str, str]]) -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(targets)


# The work of a core alone, 5 to 15 s of it, and cut off in the middle it would leave no database.
@pytest.mark.timeout(400)
def test_usage_from_before_the_ledger_is_its_opening_balance(committed_cast: Cast) -> None:
    latest = [key for key in MigrationExecutor(connection).loader.graph.leaf_nodes()]
    key = services.issue_key(tenant=committed_cast.acme, name="bot").key.pk
    use(key, 5, seq=1)
    use(424_242, 7, seq=2)
    use(key, 1, seq=3, hours=12)
    try:
        migrate(BEFORE)
    finally:
        migrate(latest)

    assert list(LedgerEntry.objects.values_list("account", "position", "hour", "units")) == [
        (0, 1, HOUR, 70),
        (0, 2, HOUR, 7),
        (committed_cast.acme.pk, 1, HOUR, 50),
        (committed_cast.acme.pk, 2, HOUR, 5),
        (committed_cast.acme.pk, 3, HOUR + timedelta(hours=12), 10),
        (committed_cast.acme.pk, 4, HOUR + timedelta(hours=12), 1),
    ]
    assert [account.last_position for account in Account.objects.all()] == [2, 4]
    daily = DailyRollup.objects.filter(key_id=key, metric="messages").order_by("day")
    assert list(daily.values_list("day", "units")) == [
        (date(2026, 11, 23), 5),
        (date(2026, 11, 24), 1),
    ]
    assert MonthlyRollup.objects.get(key_id=key, metric="messages").units == 6
    # Of coins that nobody noted, so that the days of all coins are the days from the first on.
    assert {row.coin for row in CoinRollup.objects.all()} == {"other"}
    assert {difference.check for difference in reconcile()} <= {"batch"}
    # Those of before are known still, and have no entries.
    assert UsageBatch.objects.filter(entry_count=None).count() == 3
    use(key, 2, seq=4)
    chain.seal_ledger(HOUR)
    assert [fault for account in Account.objects.all() for fault in chain.faults(account)] == []
