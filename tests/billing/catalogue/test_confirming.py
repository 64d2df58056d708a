"""A change of plan that is confirmed is the one that was shown, to the cent, or none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.catalogue import confirming, services, terms
from billing.invoicing.draft import draft_invoice
from billing.models import PlannedChange
from billing.rating.periods import HOUR
from tenants.models import Plan, Tenant
from tenants.selectors import current_plan_subscription
from tests.billing.catalogue.books import make_tenant, publish_book

START = datetime(2026, 11, 1, tzinfo=UTC)
AT = datetime(2026, 11, 16, 9, 30, 7, tzinfo=UTC)
LATER = AT + timedelta(minutes=7, seconds=13)


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def ada(book: dict[str, Plan]) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=START)
    return tenant


@pytest.mark.parametrize("code", ["large", "convert", "year"])
def test_the_invoice_is_what_was_shown(ada: Tenant, book: dict[str, Plan], code: str) -> None:
    shown = confirming.show(ada, book[code], now=AT)
    confirming.confirm(ada, shown.token, now=LATER)
    invoice = draft_invoice(ada, terms.period_of(ada, START))
    assert invoice.subtotal == shown.preview.after.subtotal
    assert [line.amount for line in invoice.lines.order_by("place")] == [
        line.amount for line in shown.preview.after.lines
    ]
    assert current_plan_subscription(ada).started_at == AT  # type: ignore[union-attr]


def test_at_the_end_of_the_period_it_is_planned(ada: Tenant, book: dict[str, Plan]) -> None:
    shown = confirming.show(ada, book["large"], at_period_end=True, now=AT)
    planned = confirming.confirm(ada, shown.token, now=LATER)
    assert isinstance(planned, PlannedChange)
    assert planned.at == datetime(2026, 12, 1, tzinfo=UTC) == shown.preview.at
    assert current_plan_subscription(ada).plan == book["small"]  # type: ignore[union-attr]


def _plans(tenant: Tenant) -> list[int]:
    return list(tenant.plan_subscriptions.order_by("pk").values_list("plan_id", flat=True))


def test_what_moved_meanwhile_changes_nothing(ada: Tenant, book: dict[str, Plan]) -> None:
    shown = confirming.show(ada, book["large"], now=AT)
    services.choose_overage(ada, is_on=True, now=AT)
    with pytest.raises(confirming.MovedError):
        confirming.confirm(ada, shown.token, now=LATER)
    again = confirming.show(ada, book["large"], now=LATER)
    confirming.confirm(ada, again.token, now=LATER)
    with pytest.raises(confirming.DoneError):  # sent twice
        confirming.confirm(ada, again.token, now=LATER)
    assert _plans(ada) == [book["small"].pk, book["large"].pk]


@pytest.mark.parametrize(
    "late", [confirming.LIFE + timedelta(seconds=1), HOUR - timedelta(minutes=29), -HOUR]
)
def test_what_is_too_old_changes_nothing(
    ada: Tenant, book: dict[str, Plan], late: timedelta
) -> None:
    shown = confirming.show(ada, book["large"], now=AT)
    with pytest.raises(confirming.MovedError):
        confirming.confirm(ada, shown.token, now=AT + late)
    assert _plans(ada) == [book["small"].pk]


def test_a_full_hour_ends_a_preview(ada: Tenant, book: dict[str, Plan]) -> None:
    at = AT.replace(minute=58)
    shown = confirming.show(ada, book["large"], now=at)
    with pytest.raises(confirming.MovedError):
        confirming.confirm(ada, shown.token, now=at + timedelta(minutes=3))


def test_only_its_own_change_is_one_that_was_made_already(
    ada: Tenant, book: dict[str, Plan]
) -> None:
    """Two previews of the same change a second apart: the other's is something that moved."""
    first = confirming.show(ada, book["large"], now=AT)
    second = confirming.show(ada, book["large"], now=AT + timedelta(seconds=1))
    confirming.confirm(ada, second.token, now=LATER)
    with pytest.raises(confirming.MovedError):
        confirming.confirm(ada, first.token, now=LATER)
    with pytest.raises(confirming.DoneError):  # also once it is too old to be confirmed
        confirming.confirm(ada, second.token, now=LATER + HOUR)
    assert _plans(ada) == [book["small"].pk, book["large"].pk]


def test_anothers_token_and_nonsense_change_nothing(ada: Tenant, book: dict[str, Plan]) -> None:
    cleo = make_tenant("Cleo")
    services.subscribe(cleo, plan=book["small"], now=START)
    shown = confirming.show(cleo, book["large"], now=AT)
    for token in (shown.token, shown.token[:-2], "", "x:y"):
        with pytest.raises(confirming.MovedError):
            confirming.confirm(ada, token, now=AT)


def test_what_is_not_offered_any_more_is_not_given(ada: Tenant, book: dict[str, Plan]) -> None:
    shown = confirming.show(ada, book["large"], now=AT)
    Plan.objects.filter(pk=book["large"].pk).update(is_active=False)
    with pytest.raises(confirming.MovedError):
        confirming.confirm(ada, shown.token, now=AT)
