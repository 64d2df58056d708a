"""Only what somebody can be given is published: names that exist, caps that can be kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from billing import channels
from billing.catalogue import services
from billing.catalogue.sellable import mistakes_of
from billing.models import PlanVersion
from billing.rating import seed
from billing.rating.prices import AddOnPrices, Entitlements, Metric, Override
from streaming.core.topic import Kind
from tests.billing.catalogue.books import (
    MAY,
    MESSAGES,
    START,
    make_add_on,
    make_prices,
    make_tenant,
    publish_book,
)


def said(document: object) -> list[str]:
    return [str(mistake) for mistake in mistakes_of(document)]  # type: ignore[arg-type]


def test_the_channels_are_those_that_can_be_followed() -> None:
    assert list(channels.SUBSCRIPTIONS) == [str(kind) for kind in Kind]


def test_our_own_book_can_be_sold_and_every_plan_opens_the_account() -> None:
    book = seed.load()
    assert [line for document in (*book.plans, *book.add_ons) for line in said(document)] == []
    assert all("account" in plan.entitlements.products for plan in book.plans)


def test_a_product_that_is_none_is_refused_by_name() -> None:
    plan = make_prices("odd", 1, entitlements=replace(MAY, products=("ws", "inffo")))
    assert said(plan) == ['entitlements.products: "inffo" is no product of this relay; write info.']


def test_a_channel_that_is_none_is_refused_wherever_it_stands() -> None:
    meter = replace(MESSAGES, channels=("l2book",), weights={"l4Dif": Decimal(2)})
    plan = make_prices("odd", 1, entitlements=replace(MAY, channels=("tradez",)), meters=(meter,))
    assert said(plan) == [
        'entitlements.channels: "tradez" is no channel of this relay; write trades.',
        'meters[0].channels: "l2book" is no channel of this relay; write l2Book.',
        'meters[0].weights: "l4Dif" is no channel of this relay; write l4Diff.',
    ]
    more: AddOnPrices = make_add_on(entitlements=Entitlements(channels=("zzz",)))
    assert "the channels are l2Book, bbo" in said(more)[0]


@pytest.mark.parametrize("metric", [Metric.COIN_MINUTES, Metric.ARCHIVE_BYTES])
def test_overage_that_no_spend_cap_could_bound_is_refused(metric: Metric) -> None:
    meter = replace(MESSAGES, code="tokens", metric=metric)
    (line,) = said(make_prices("odd", 1, meters=(MESSAGES, meter)))
    assert line.startswith(f"meters[1].overage: is true, but {metric} cannot be refused")
    assert said(make_prices("even", 1, meters=(MESSAGES, replace(meter, overage=False)))) == []


def test_nothing_of_it_is_published_or_agreed(db: None) -> None:
    odd = replace(MAY, products=("wss",))
    with pytest.raises(ValidationError, match='"wss" is no product'):
        services.publish_plan_version(make_prices("odd", 1, entitlements=odd), now=START)
    assert not PlanVersion.objects.exists()
    with pytest.raises(ValidationError, match='"wss" is no product'):
        services.publish_add_on_version(make_add_on(entitlements=odd), now=START)
    tenant, now = make_tenant(), datetime(2026, 11, 20, tzinfo=UTC)
    services.subscribe(tenant, plan=publish_book()["small"], now=now)
    own = Override(plan="small", starts_at=now, entitlements=odd)
    with pytest.raises(ValidationError, match='"wss" is no product'):
        services.set_own_terms(tenant, own, now=now)
