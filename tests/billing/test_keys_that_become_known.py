"""Usage of a key that nobody knew and then somebody does: each account has its own sums."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from billing.metering.batch import UsageLine
from billing.metering.coins import fold_coins
from billing.metering.ingest import ingest
from billing.metering.reconcile import reconcile
from billing.metering.rollup import rebuild_rollups
from billing.models import CoinRollup, DailyRollup, UsageRollup
from tenants.models import APIKey
from tests.billing.usage import HOUR, make_batch, use
from tests.tenants.cast import Cast

KEY = 424_242


def become_known(cast: Cast) -> None:
    APIKey.objects.create(pk=KEY, tenant=cast.acme, name="late", prefix="late", digest="d" * 64)


def sums() -> set[tuple[object, ...]]:
    return set(UsageRollup.objects.values_list("tenant", "account", "metric", "units"))


def test_incremental_and_rebuilt_sums_agree(cast: Cast) -> None:
    use(KEY, 7, seq=1)
    become_known(cast)
    use(KEY, 5, seq=2)
    acme = cast.acme.pk
    expected = {
        (None, 0, "messages", 7),
        (None, 0, "bytes", 70),
        (acme, acme, "messages", 5),
        (acme, acme, "bytes", 50),
    }
    assert sums() == expected
    assert list(reconcile()) == []
    rebuild_rollups()
    assert sums() == expected
    assert list(reconcile()) == []


def test_coins_of_both_accounts_are_folded_apart(cast: Cast) -> None:
    for seq in (1, 2):
        lines = [UsageLine(KEY, "bbo", seq, 10, 0, f"C{n}") for n in range(60)]
        assert ingest(make_batch(*lines, seq=seq))
        if seq == 1:
            become_known(cast)
    fold_coins(HOUR.date() + timedelta(days=1))
    others = CoinRollup.objects.filter(coin="other")
    assert set(others.values_list("tenant", "messages")) == {(None, 10), (cast.acme.pk, 20)}
    assert list(reconcile()) == []


# The work of a core alone, 5 to 15 s of it, and cut off in the middle it would leave no database.
@pytest.mark.timeout(400)
def test_the_migration_goes_back_and_forth(committed_cast: Cast) -> None:
    use(KEY, 7, seq=1)
    become_known(committed_cast)
    use(KEY, 5, seq=2)
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    try:
        executor.migrate([("billing", "0007_usage_detail")])
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT tenant_id, metric, units FROM billing_dailyrollup ORDER BY metric"
            )
            acme = committed_cast.acme.pk
            assert list(cursor) == [(acme, "bytes", 120), (acme, "messages", 12)]
            cursor.execute("SELECT tenant_id, messages, bytes FROM billing_coinrollup")
            assert list(cursor) == [(acme, 12, 120)]
    finally:
        MigrationExecutor(connection).migrate(latest)
    rebuild_rollups()
    assert set(DailyRollup.objects.values_list("tenant", "metric", "units")) == {
        (None, "messages", 7),
        (None, "bytes", 70),
        (acme, "messages", 5),
        (acme, "bytes", 50),
    }
