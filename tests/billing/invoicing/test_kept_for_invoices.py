"""Usage in detail is kept until its period has a finalized invoice, however old it is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.invoicing.closing import close_due_periods, finalize_due
from billing.metering import retention
from billing.models import UsageRollup
from tenants import services
from tests.billing.invoicing.books import FEBRUARY, NOVEMBER, OCTOBER, use
from tests.tenants.cast import Cast

MUCH_LATER = FEBRUARY.replace(month=12)


@pytest.mark.usefixtures("book")
def test_hours_of_drafts_and_of_what_has_none_are_not_deleted(cast: Cast, settings: object) -> None:
    settings.RELAY_KEEP_HOURLY_DAYS = 10  # type: ignore[attr-defined]
    key = services.issue_key(tenant=cast.acme, name="bot").key
    month_before = MUCH_LATER.replace(month=11)
    assert retention.needed_since(MUCH_LATER) == month_before
    use(key, OCTOBER + timedelta(days=3), 300)
    use(key, NOVEMBER + timedelta(days=3, hours=5), 300)

    close_due_periods(NOVEMBER)
    assert retention.needed_since(MUCH_LATER) == OCTOBER
    assert retention.delete_expired(MUCH_LATER)["hourly"] == 0
    finalize_due(NOVEMBER + timedelta(days=9))
    # November has not even a draft: closing it failed, say.
    assert retention.needed_since(MUCH_LATER) == NOVEMBER + timedelta(days=3)
    assert retention.delete_expired(MUCH_LATER)["hourly"] == 1
    close_due_periods(MUCH_LATER)
    assert retention.needed_since(MUCH_LATER) == NOVEMBER
    finalize_due(MUCH_LATER + timedelta(days=9))
    assert retention.needed_since(MUCH_LATER) == month_before
    assert retention.delete_expired(MUCH_LATER)["hourly"] == 1
    assert UsageRollup.objects.count() == 0
