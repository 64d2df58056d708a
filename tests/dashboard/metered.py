"""A tenant that used something, for the pages of usage: posted to the ledger as edges post it, so
that charts, tables, files and receipts have the same to say. Run inside a relay's project."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User

from billing.catalogue import services as catalogue
from billing.metering.batch import VERSION, Batch, UsageLine
from billing.metering.chain import seal_ledger
from billing.metering.ingest import ingest
from gateway.account import webhooks
from relay_site.demo import CUSTOMER
from streaming.bus.rates import RateBook
from streaming.core.topic import Kind, Topic
from streaming.nodes import live
from tenants import services
from tenants.models import Delivery, Plan, Tenant, WebhookEndpoint
from tenants.notices.services import notify
from tenants.people.services import make_first_owner
from tenants.quota_warnings import warn

SLUG = "metered"
#: Channel, coin, messages an hour, bytes of each, why it is free.
FEEDS = (
    ("l2Book", "BTC", 9_000, 410, ""),
    ("l2Book", "ETH", 7_400, 390, ""),
    ("l2Book", "HYPE", 6_100, 380, ""),
    ("trades", "BTC", 3_900, 260, ""),
    ("trades", "ETH", 2_100, 250, ""),
    ("bbo", "SOL", 5_200, 130, ""),
    ("allMids", "", 3_600, 4_100, ""),
    ("trades", "BTC", 240, 260, "replay"),
    ("l2Book", "BTC", 60, 9_000, "resync"),
    ("bbo", "BTC", 420, 130, "dashboard"),
)


def metered(*, days: int = 9) -> dict[str, Any]:
    """Make it once; the names that paths use."""
    tenant = Tenant.objects.filter(slug=SLUG).first()
    if tenant is None:
        tenant = _make(days)
        _count_rates()
    endpoint = WebhookEndpoint.objects.filter(tenant=tenant).earliest("pk")
    delivery = Delivery.objects.filter(tenant=tenant, endpoint=endpoint).earliest("pk")
    return {"metered": SLUG, "webhook": str(endpoint.uid), "delivery": str(delivery.uid)}


def _make(days: int) -> Tenant:
    now = datetime.now(UTC)
    tenant = services.create_tenant(name="Northwind Trading", plan=None, slug=SLUG)
    make_first_owner(tenant=tenant, user=User.objects.get(email=CUSTOMER))
    # Long ago, so that it pays: a trial costs nothing.
    catalogue.subscribe(tenant, plan=Plan.objects.get(code="starter"), now=now - timedelta(days=60))
    catalogue.choose_overage(tenant, is_on=True, now=now - timedelta(days=59))
    keys = [services.issue_key(tenant=tenant, name=name).key.pk for name in ("mm-tokyo", "ops")]
    worker, hour = uuid.uuid4().hex, now.replace(minute=0, second=0, microsecond=0)
    # One batch in four hours: enough for a picture, and soon there.
    for seq in range(1, 6 * days + 1):
        at = hour - timedelta(hours=4 * (6 * days - seq))
        wave = 6 + abs(12 - at.hour) // 2 + seq % 5
        lines = [
            UsageLine(key, channel, n * wave * 2, n * wave * 2 * size, 0, coin, reason)
            for place, key in enumerate(keys)
            for channel, coin, n, size, reason in FEEDS[place * 3 :]
        ]
        lines.append(UsageLine(keys[0], "info", 0, 900 * wave, 12 * wave))
        assert ingest(Batch(v=VERSION, worker=worker, seq=seq, hour=at, lines=lines))
        if seq % 6 == 0:
            seal_ledger(at)
    webhooks.add(tenant, url="https://hooks.example.com/relay")
    resets_at = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
    warn(
        tenant.pk,
        "messages",
        80,
        used=40_212_004,
        limit=50_000_000,
        resets_at=resets_at,
        period=f"messages:{now:%Y-%m}",
    )
    notify(
        tenant=tenant,
        kind="gap.recorded",
        payload={"stream": "trades", "from": "a", "to": "b", "reason": "a node was away"},
        dedupe="gap:1",
    )
    return tenant


def _count_rates() -> None:
    """What a worker would have counted in the last half hour, for the estimator."""
    rates = (
        (Kind.L2_BOOK, 110, 410),
        (Kind.L2_DIFF, 108, 160),
        (Kind.TRADES, 60, 260),
        (Kind.BBO, 95, 130),
    )
    start_s = time.time() - 1_800
    now_s = [start_s]
    book = RateBook(worker="0" * 32, clock=lambda: now_s[0])
    topics = [
        (Topic(kind, coin), n, size) for kind, n, size in rates for coin in ("BTC", "ETH", "SOL")
    ]
    with live.bus() as client, client.pipeline(transaction=False) as pipe:
        for minute in range(30):
            now_s[0] = start_s + 60 * (minute + 1)
            for topic, count, size in topics:
                for _ in range(count):
                    book.add(topic.name, size)
            for command in book.flush([topic.name for topic, _, _ in topics]):
                pipe.execute_command(*command)
        pipe.execute()
