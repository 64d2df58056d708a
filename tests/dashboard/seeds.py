"""Rows that make pages look like an account in use. Each function runs in a process of the relay's
own project, may run again on the same relay, and returns names that paths may use."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from billing.catalogue import services as catalogue
from billing.metering.batch import Batch, UsageLine
from billing.metering.ingest import ingest
from gateway.operations import sampling
from gateway.operations.freshness import Look
from gateway.operations.models import Incident
from gateway.operations.services import add_update, open_incident
from relay_site.demo import CUSTOMER
from streaming.nodes.models import GapRecord
from tenants import guarding, services
from tenants.models import APIKey, Membership, Plan, Tenant
from tenants.people.services import make_first_owner
from tests.dashboard.live_seed import live
from tests.dashboard.metered import metered
from tests.dashboard.money_seed import money

__all__ = ["acme", "live", "metered", "money", "public"]

SLUG = "acme-trading"
DAYS = 14


def acme() -> dict[str, Any]:
    """The demo's customer owns another company too: on a plan with prices, with keys in every state
    and two weeks of usage."""
    tenant = Tenant.objects.filter(slug=SLUG).first()
    if tenant is None:
        tenant = services.create_tenant(name="Acme Trading", plan=None, slug=SLUG)
        make_first_owner(tenant=tenant, user=User.objects.get(email=CUSTOMER))
        catalogue.change_plan(tenant, plan=Plan.objects.get(code="growth"))
        _keys(tenant)
    key = APIKey.objects.get(tenant=tenant, name="Market maker, Tokyo")
    member = Membership.objects.get(tenant=tenant)
    return {"slug": SLUG, "key_id": key.pk, "membership_id": member.pk}


def public() -> dict[str, Any]:
    """Ninety days of the status page with one bad one, an incident that ended, and a gap."""
    now = timezone.now()
    if not Incident.objects.exists():
        for day in range(90, 0, -1):
            for minute in (0, 1):
                look = Look(is_fresh=not (day == 40 and minute), age_ms=420)
                looks = {f"feed:{feed}": look for feed in ("books", "trades", "orders")}
                sampling.record(looks, now - timedelta(days=day, minutes=minute))
        incident = open_incident(title="Books were late", text="We look into it.")
        add_update(incident, state="resolved", text="A node was slow; another took over.")
        GapRecord.objects.create(
            topic="trades BTC",
            kind="trades",
            coin="BTC",
            source="node",
            from_height=1_000_000,
            from_index=0,
            to_height=1_000_012,
            to_index=0,
            reason="No node has the block",
            detected_at=now,
        )
    sampling.sample(now)
    return {}


def _keys(tenant: Tenant) -> None:
    desk = services.issue_key(
        tenant=tenant,
        name="Market maker, Tokyo",
        scopes=["ws", "info", "exchange"],
        allowed_networks=["192.0.2.0/24"],
        daily_quota=5_000_000,
        owner="Desk A",
    ).key
    guarding.set_rails(desk, coins=["BTC", "ETH"], max_order_usd=50_000)
    research = services.issue_key(tenant=tenant, name="Research").key
    stopped = services.issue_key(tenant=tenant, name="Old bot", scopes=["ws", "exchange"]).key
    guarding.kill(stopped)
    services.rotate_key(
        services.issue_key(tenant=tenant, name="Reports", scopes=["info"]).key,
        overlap=timedelta(hours=24),
    )
    services.revoke_key(services.issue_key(tenant=tenant, name="Laptop").key)
    _use(desk, 220_000)
    _use(research, 60_000)


def _use(key: APIKey, daily: int) -> None:
    """About so many messages a day, the same in every run."""
    dice = random.Random(daily)
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for back in range(DAYS):
        lines = []
        for channel, share in (("trades", 0.5), ("bbo", 0.35), ("l2Book", 0.15)):
            count = int(daily * share * dice.uniform(0.5, 1.5))
            lines.append(UsageLine(key.pk, channel, count, 180 * count, 0, "BTC"))
        batch = Batch(
            v=2,
            worker=uuid.uuid4().hex,
            seq=1,
            hour=hour - timedelta(days=back),
            lines=lines,
        )
        assert ingest(batch)
