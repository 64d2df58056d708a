"""Who is metered only owes nothing: previews, running costs, spend caps and pages say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from billing.catalogue import confirming, services, spending, written
from billing.catalogue.allowed import CAP_SUFFIX
from billing.catalogue.preview import preview_plan_change
from billing.invoicing.draft import draft_invoice
from billing.invoicing.kinds import customs_of
from gateway.account import plans
from tenants import services as tenants
from tenants.models import Allowance, APIKey, Plan, Tenant
from tests.billing.catalogue.books import make_tenant, publish_book
from tests.billing.invoicing.books import use

START = datetime(2026, 11, 1, tzinfo=UTC)
MIDDLE = datetime(2026, 11, 16, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = ("external", "internal", "demo")


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def ada(book: dict[str, Plan]) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=START)
    services.choose_overage(tenant, is_on=True, now=START)
    return tenant


@pytest.fixture
def key(ada: Tenant) -> APIKey:
    return tenants.issue_key(tenant=ada, name="bot").key


def become(tenant: Tenant, kind: str, at: datetime) -> Tenant:
    tenant = Tenant.objects.get(pk=tenant.pk)
    tenant.kind = kind
    return tenants.update_tenant(tenant, now=at)


def units(tenant: Tenant, at: datetime, *, is_hard: bool) -> dict[str, int]:
    rows = Allowance.objects.filter(tenant=tenant, starts_at__lte=at, ends_at__gt=at)
    return dict(rows.filter(is_hard=is_hard).values_list("code", "units"))


STEPS = st.lists(
    st.tuples(
        st.sampled_from([20, 60, 61, 900, 4_000]),
        st.one_of(st.sampled_from(KINDS), st.integers(0, 30).map(lambda n: n * 1_000)),
    ),
    max_size=8,
)


@pytest.mark.timeout(300)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(kind=st.sampled_from(KINDS), steps=STEPS)
@example(kind="demo", steps=[(900, 29_000), (4_000, "external"), (20, 9_000), (61, 9_000)])
@example(kind="external", steps=[(900, 40_000), (61, "internal"), (60, 30_000), (60, "external")])
def test_what_is_shown_is_what_is_invoiced(
    ada: Tenant, key: APIKey, book: dict[str, Plan], kind: str, steps: list[tuple[int, str | int]]
) -> None:
    with transaction.atomic():
        Tenant.objects.filter(pk=ada.pk).update(kind=kind)
        services.set_spend_cap(ada, Decimal(100), now=START)
        tenant, now = Tenant.objects.get(pk=ada.pk), START
        for n, (minutes, step) in enumerate(steps):
            now += timedelta(minutes=minutes)
            if isinstance(step, int):
                use(key, now.replace(minute=0), step, f"c{n}")
            else:
                tenant = become(tenant, step, now)
        now += HOUR
        is_invoiced = tenant.kind == "external"
        running = plans.running(tenant, now=now)
        preview = preview_plan_change(tenant, book["large"], now)
        assert running is not None
        assert running.is_invoiced is preview.is_invoiced is is_invoiced
        assert running.so_far == preview.before
        if customs_of([tenant])[tenant.pk].is_never:
            assert running.so_far.total == preview.difference == preview.next_fee == 0
        else:
            draft = draft_invoice(tenant, running.period)
            assert draft.total == running.so_far.total
            services.change_plan(tenant, plan=book["large"], now=now)
            assert draft_invoice(tenant, running.period).total == preview.after.total
        if not is_invoiced:
            assert running.projected == running.so_far
            assert preview.next_fee == 0
        transaction.set_rollback(True)


@pytest.mark.parametrize("kind", ["internal", "demo"])
def test_no_spend_cap_stops_who_owes_nothing(ada: Tenant, key: APIKey, kind: str) -> None:
    services.set_spend_cap(ada, Decimal(10), now=START)
    use(key, MIDDLE.replace(minute=0), 90_000, "bbo")
    spending.limit_spending(MIDDLE)
    cap = units(ada, MIDDLE, is_hard=True)["messages" + CAP_SUFFIX]
    assert cap <= 90_000  # it is refused
    become(ada, kind, MIDDLE)
    assert written.catch_up(MIDDLE) == 1
    assert units(ada, MIDDLE, is_hard=True) == {}
    assert units(ada, MIDDLE, is_hard=False)["messages"] == 30_000
    assert spending.limit_spending(MIDDLE + HOUR) == 0
    # Without overage units still bound it: they are the plan's, and not money.
    services.choose_overage(ada, is_on=False, now=MIDDLE)
    written.catch_up(MIDDLE + HOUR)
    assert units(ada, MIDDLE + HOUR, is_hard=True)["messages"] == 30_000


def test_what_was_used_for_nothing_counts_against_nothing(ada: Tenant, key: APIKey) -> None:
    """A demo that becomes a customer on the 16th at 09:30 has what these days include, and all of
    its spend cap, beside what it used before: also within that hour."""
    services.choose_overage(ada, is_on=False, now=START)
    ada = become(ada, "demo", START + HOUR)
    use(key, MIDDLE.replace(day=5, minute=0), 29_000, "bbo")
    use(key, MIDDLE.replace(minute=0), 500, "bbo")
    ada = become(ada, "external", MIDDLE)
    written.catch_up(MIDDLE)
    # 30,000 × (1 h and 14 days and 14.5 h) / 30 days
    included = -(-30_000 * (1 + 14 * 24 + 14.5) // 720)
    first = Allowance.objects.get(tenant=ada, code="messages", starts_at=START)
    assert first.units == included + 29_500
    services.choose_overage(ada, is_on=True, now=MIDDLE + HOUR)
    services.set_spend_cap(ada, Decimal(100), now=MIDDLE + HOUR)
    later = units(ada, MIDDLE + HOUR, is_hard=True)
    assert later["messages" + CAP_SUFFIX] == included + 29_500 + 10_000


def test_a_preview_of_another_kind_is_not_confirmed(ada: Tenant, book: dict[str, Plan]) -> None:
    shown = confirming.show(ada, book["large"], now=MIDDLE)
    ada = become(ada, "internal", MIDDLE)
    with pytest.raises(confirming.MovedError):
        confirming.confirm(ada, shown.token, now=MIDDLE)
    shown = confirming.show(ada, book["large"], now=MIDDLE)
    assert not shown.preview.is_invoiced
    assert shown.preview.difference == shown.preview.next_fee == 0
    confirming.confirm(ada, shown.token, now=MIDDLE)
