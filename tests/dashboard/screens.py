"""Every page, as data: what `make screenshots` shows and `test_screens.py` looks at.

A new page adds a row; one that needs rows of the database to look like anything adds to `SEEDS`.
"""

from __future__ import annotations

from typing import NamedTuple


class Screen(NamedTuple):
    """A page by name: its path, and whether the demo's customer is signed in. `{slug}` is the
    demo's tenant, other braces are what the seeds printed."""

    name: str
    path: str
    is_signed_in: bool = True
    #: A selector that is there once the page is drawn, if it is not at once.
    wait_for: str = ""


SCREENS: tuple[Screen, ...] = (
    Screen("sign-in", "/accounts/login/", is_signed_in=False),
    Screen("sign-up", "/accounts/signup/", is_signed_in=False),
    Screen("password-reset", "/accounts/password/reset/", is_signed_in=False),
    Screen("email", "/accounts/email/"),
    Screen("second-factor", "/accounts/2fa/"),
    Screen("not-found", "/app/no-such/"),
    Screen("keys", "/app/{slug}/keys/"),
    Screen("key-new", "/app/{slug}/keys/new"),
    Screen("key", "/app/{slug}/keys/{key_id}/"),
    Screen("overview", "/app/{slug}/"),
    Screen("start", "/app/{slug}/start/", wait_for="[data-console][data-state=live]"),
    Screen("landing", "/", is_signed_in=False),
    Screen("status", "/status/", is_signed_in=False),
    Screen("gaps", "/status/gaps/", is_signed_in=False),
    Screen("docs", "/docs/en/", is_signed_in=False),
    Screen("docs-quickstart", "/docs/en/quickstart/", is_signed_in=False),
    Screen("docs-dialect", "/docs/en/relay-dialect/", is_signed_in=False),
    Screen("docs-chinese", "/docs/zh-hant/", is_signed_in=False),
)

#: Python that is run inside the project before the first picture, each in a process of its own.
#: What the last line prints is JSON, an object whose names paths may use.
SEEDS: list[str] = [
    """
import json
from tenants import guarding, services
from tenants.models import Tenant
tenant = Tenant.objects.get(slug="demo")
desk = services.issue_key(
    tenant=tenant,
    name="Market maker, Tokyo",
    scopes=["ws", "info", "exchange"],
    allowed_networks=["192.0.2.0/24"],
    daily_quota=5_000_000,
    owner="Desk A",
).key
guarding.set_rails(desk, coins=["BTC", "ETH"], max_order_usd=50_000)
stopped = services.issue_key(tenant=tenant, name="Old bot", scopes=["ws", "exchange"]).key
guarding.kill(stopped)
services.revoke_key(services.issue_key(tenant=tenant, name="Laptop").key)
print(json.dumps({"key_id": desk.pk}))
""",
    """
from datetime import timedelta
from django.utils import timezone
from gateway.operations import sampling, services
from gateway.operations.freshness import Look
from streaming.nodes.models import GapRecord

now = timezone.now()
for day in range(90, 0, -1):
    for minute in (0, 1):
        fresh = not (day == 40 and minute)
        looks = {f"feed:{feed}": Look(fresh, 420) for feed in ("books", "trades", "orders")}
        sampling.record(looks, now - timedelta(days=day, minutes=minute))
sampling.sample(now)
incident = services.open_incident(title="Books were late", text="We look into it.", impact="minor")
services.add_update(incident, state="resolved", text="A node was slow; another took over.")
GapRecord.objects.get_or_create(
    topic="trades BTC", kind="trades", coin="BTC", source="node", edge="",
    from_height=1_000_000, from_index=0, to_height=1_000_012, to_index=0,
    defaults={"reason": "No node has the block", "detected_at": now},
)
print("{}")
""",
]
