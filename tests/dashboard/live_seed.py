"""What the pages of requests and traces show: run inside a relay's project, before pictures."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings
from django.utils import timezone

from gateway.exchange.address_budget import KEY
from gateway.exchange.trace import Trace, bucket_of, id_of
from gateway.exchange.trace_store import Batch, TraceStore
from gateway.requests.latency_store import LatencyWriter
from gateway.requests.models import RequestRecord
from tenants.models import APIKey, Tenant

SLUG = "acme-trading"
ADDRESS = "0x" + "ab" * 20
FAILURES = (
    (429, "rate_limited", "info", "l2Book", None),
    (422, "bad_request", "info", "(unknown)", None),
    (502, "upstream_failed", "info", "userFills", 812.0),
    (200, "not_served", "evm", "eth_getLogs", None),
    (403, "rail_kill_switch", "exchange", "order", None),
)


def live() -> dict[str, Any]:
    """Of the seeded tenant; returns the ids that paths may use."""
    tenant = Tenant.objects.get(slug=SLUG)
    key = APIKey.objects.filter(tenant=tenant, is_dashboard=None).order_by("pk")[0]
    now = timezone.now()
    RequestRecord.objects.filter(request_id__startswith="seed-").delete()
    RequestRecord.objects.bulk_create(
        RequestRecord(
            at=now - timedelta(seconds=37 * place), request_id=f"seed-{place:04d}",
            tenant=tenant, key_prefix=key.prefix, door=door, method="POST", kind=kind,
            status=status, code=code, upstream_ms=upstream, total_ms=(upstream or 0) + 1.4,
        )
        for place in range(60)
        for status, code, door, kind, upstream in (FAILURES[place * 7 % 5],)
    )  # fmt: skip
    newest = asyncio.run(_write(tenant, key))
    client = redis.Redis.from_url(settings.REDIS_CACHE_URL)
    client.set(KEY.format(address=ADDRESS), json.dumps([9_130, 10_412, "412.7", 0]), ex=600)
    client.close()
    return {"request_id": "seed-0000", "trace_id": newest}


async def _write(tenant: Tenant, key: APIKey) -> str:
    latencies = LatencyWriter(settings.REDIS_CACHE_URL)
    for place in range(400):
        latencies.note(tenant.pk, "info", 0.6 + place % 40 / 10)
        latencies.note(tenant.pk, "exchange", 180 + place % 90)
    await latencies.flush()
    batch, now_ms = Batch(), time.time() * 1e3
    for place in range(30):
        trace = _trace(key, now_ms - 4_000 * place - 900, place)
        batch.rows[trace.id] = trace
        batch.new.add(trace.id)
        for step in ("sent", "acked", "block", "fill"):
            if (took := trace.took_ms(step)) is not None:
                batch.times[f"{step}:{bucket_of(took)}"] += 1
    store = TraceStore(settings.REDIS_CACHE_URL, max_bytes=64 << 20, process="seed")
    await store.write({tenant.pk: batch}, now_ms=now_ms)
    await store.aclose()
    return max(batch.rows)


def _trace(key: APIKey, at_ms: float, place: int) -> Trace:
    """An order that was filled, one that rests, one that was refused, or a cancel."""
    kind = "cancel" if place % 4 == 3 else "order"
    trace = Trace(
        id_of(at_ms, place, "seed"), f"req-{place}", key.pk, key.prefix, kind, 0, at_ms, asset=0,
        coin=("BTC", "ETH", "HYPE")[place % 3], oid=91_000_000 + place, user=ADDRESS,
    )  # fmt: skip
    if place % 7 == 5:
        trace.outcome, trace.text = "refused", "The key is cancel-only."
        return trace
    trace.sent_ms = at_ms + 0.9 + place % 5 / 10
    trace.acked_ms = trace.sent_ms + 170 + place * 3 % 60
    trace.block_ms = int(trace.sent_ms + 110 + place * 5 % 70)
    trace.height, trace.state = 1_100_000_000 + place, "seen"
    trace.status = trace.last_status = ("filled", "resting", "filled", "success")[place % 4]
    if trace.status == "filled":
        trace.fill_ms, trace.fill_height, trace.fills = trace.block_ms + 70, trace.height + 1, 2
    return trace
