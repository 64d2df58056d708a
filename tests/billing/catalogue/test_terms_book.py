"""Many tenants are read with as many queries as one, and each as by itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.catalogue import services, terms
from billing.models import AddOn
from tests.billing.catalogue.books import make_add_on, make_tenant, publish_book

START = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.django_db
def test_many_as_one() -> None:
    book = publish_book()
    services.publish_add_on_version(make_add_on(), now=START)
    several = [make_tenant(f"Tenant {n}") for n in range(6)]
    for n, tenant in enumerate(several):
        services.subscribe(tenant, plan=book["small"], now=START.replace(day=1 + n))
        services.add_add_on(
            tenant, add_on=AddOn.objects.get(), quantity=1 + n, now=START.replace(day=8)
        )
        services.choose_overage(tenant, is_on=True, now=START.replace(day=9))
    terms.prices()

    counts = []
    for tenants in (several[:1], several):
        with CaptureQueriesContext(connection) as queries:
            loaded = terms.TermsBook.load(tenants, START, DECEMBER)
            found = {
                tenant: loaded.segments_of(tenant, period)
                for tenant in tenants
                for period in loaded.periods_between(tenant, START, DECEMBER)
            }
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 9

    for tenant in several:
        (period,) = terms.periods_between(tenant, START, DECEMBER)
        assert found[tenant] == terms.segments_of(tenant, period)
        at = START.replace(day=20)
        assert loaded.entitlements_of(tenant, at) == terms.entitlements_of(tenant, at)
        assert loaded.anchors_of(tenant) == terms.anchors_of(tenant)
        assert loaded.discounts_of(tenant, period) == terms.discounts_of(tenant, period) == ()
