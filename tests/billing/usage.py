"""Usage for tests: batches as edges seal them, and what the tables then hold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from billing.metering.batch import Batch, UsageLine
from billing.metering.ingest import ingest
from billing.models import Account, LedgerEntry, LedgerSeal, UsageBatch
from tenants.models import Tenant

HOUR = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORKER = "a" * 32


def make_batch(
    *lines: UsageLine, seq: int = 1, worker: str = WORKER, hour: datetime = HOUR
) -> Batch:
    """A batch of `worker`."""
    return Batch(v=1, worker=worker, seq=seq, hour=hour, lines=list(lines))


def use(key_id: int, messages: int, *, seq: int, hours: int = 0, channel: str = "bbo") -> None:
    """Ingest a batch of one line, of the hour `HOUR + hours`."""
    line = UsageLine(key_id, channel, messages, 10 * messages, 0)
    assert ingest(make_batch(line, seq=seq, hour=HOUR + timedelta(hours=hours)))


def seals(tenant: Tenant) -> list[tuple[int, datetime, int, int]]:
    """Number, hour and positions of a tenant's seals."""
    rows = LedgerSeal.objects.for_tenant(tenant).order_by("number")
    return list(rows.values_list("number", "hour", "first_position", "last_position"))


def ledger() -> Counter[tuple[datetime, int, str, str, str]]:
    """Units by hour, key, metric, channel and reason, as the entries say."""
    sums: Counter[tuple[datetime, int, str, str, str]] = Counter()
    for *place, units in LedgerEntry.objects.values_list(
        "hour", "key_id", "metric", "channel", "zero_rated", "units"
    ):
        sums[tuple(place)] += units  # type: ignore[index]
    return sums


def everything() -> dict[str, list[tuple[object, ...]]]:
    """All rows of batches, ledger and chain, without what the clock put there."""
    return {
        "batches": list(UsageBatch.objects.order_by("pk").values_list("worker", "flush_seq")),
        "accounts": list(Account.objects.values_list()),
        "entries": list(LedgerEntry.objects.values_list("account", "position", "hour", "units")),
        "seals": list(LedgerSeal.objects.values_list("account", "number", "sha256")),
    }
