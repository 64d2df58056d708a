"""Who has no coin-minutes left follows no coin: neither anew nor any longer."""

from __future__ import annotations

from datetime import UTC, datetime

from streaming.core.topic import Kind, Topic
from streaming.ws.following import Following
from streaming.ws.plan import PlanLease, follows
from tenants.admission.allowances import Used
from tenants.admission.caps import caps_of
from tenants.admission.control import AdmissionControl
from tenants.admission.directory import Directory
from tenants.admission.principal import Allowed
from tenants.admission.quotas import Occupancy
from tests.tenants.test_directory import principal

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MONTH = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
KEY = principal(allowances=(Allowed("books+cap", "coin_minutes", *MONTH, units=100, is_hard=True),))
BOOK, MIDS = Topic(Kind.L2_BOOK, "BTC"), Topic(Kind.ALL_MIDS)


class _NoMeter:
    def mark(self, key_id: int, coin: str, minute: int) -> None:
        """Nothing is counted."""


async def lease_with(used: int) -> PlanLease:
    control = AdmissionControl(
        Directory(load=lambda _: {}),
        Occupancy(),
        load_used=lambda *_: [Used(7, "coin_minutes", "coins", used)],
        now=lambda: NOON,
    )
    control.allowances.know(KEY)
    await control.allowances.learn(KEY)
    lease = control.occupancy.open(KEY)
    await control.allowances.settle()
    await control.aclose()
    return PlanLease(lease, control, following=Following(_NoMeter()))


async def test_a_coin_is_refused_when_the_minutes_are_used_up() -> None:
    assert (await lease_with(99)).subscribe(BOOK) is None
    lease = await lease_with(100)
    shortage = lease.subscribe(BOOK)
    assert shortage is not None
    assert (shortage.code, shortage.limit, shortage.used) == ("quota_exhausted", 100, 100)
    assert lease.subscribe(MIDS) is None


def test_a_connection_that_follows_a_coin_uses_them_up() -> None:
    (cap,) = caps_of(KEY, NOON)
    assert follows([MIDS, BOOK], cap)
    assert not follows([MIDS], cap)
    assert not follows([], cap)
