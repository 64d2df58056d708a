"""What admission is told was used: what a plan may charge, of the hours asked for, by family."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from billing.metering.used import read_used
from billing.models import UsageRollup
from tenants import services
from tenants.admission.allowances import Used
from tests.billing.usage import HOUR, use
from tests.tenants.cast import Cast


def test_what_a_plan_may_charge_is_told_by_key_family(cast: Cast) -> None:
    first = services.issue_key(tenant=cast.acme, name="bot").key
    second = services.rotate_key(first, overlap=timedelta(days=1), now=timezone.now()).key
    other = services.issue_key(tenant=cast.other, name="theirs").key
    use(first.pk, 5, seq=1)
    use(second.pk, 7, seq=2, hours=1)
    use(first.pk, 1_000, seq=3, hours=2)
    use(other.pk, 1_000, seq=4)
    UsageRollup.objects.create(
        tenant=cast.acme, key=first, hour=HOUR, metric="messages", channel="bbo",
        zero_rated="replay", units=1_000,
    )  # fmt: skip
    # Free on some plans only, and admission does not know on which: it counts.
    UsageRollup.objects.create(
        tenant=cast.acme, key=first, hour=HOUR, metric="messages", channel="bbo",
        zero_rated="heartbeat", units=3,
    )  # fmt: skip
    found = read_used(cast.acme.pk, HOUR, HOUR + timedelta(hours=2))
    assert sorted(found) == [
        Used(first.pk, "bytes", "bbo", 50),
        Used(first.pk, "bytes", "bbo", 70),
        Used(first.pk, "messages", "bbo", 7),
        Used(first.pk, "messages", "bbo", 8),
    ]
