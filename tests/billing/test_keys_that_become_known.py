"""Usage of a key that nobody knew and then somebody does: each account has its own sums."""

from __future__ import annotations

from datetime import timedelta

from billing.metering.batch import UsageLine
from billing.metering.coins import fold_coins
from billing.metering.ingest import ingest
from billing.metering.reconcile import reconcile
from billing.metering.rollup import rebuild_rollups
from billing.models import CoinRollup, UsageRollup
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
