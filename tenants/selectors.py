"""Reads of tenants and keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from ipaddress import ip_network
from typing import TypeVar

import structlog
from django.db.models import Q
from django.utils import timezone

from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate
from tenants.admission.principal import DEFAULT_MAX_LAG_S, NO_LIMITS, Limits, Network, Principal
from tenants.models import APIKey, APIKeyQuerySet, PlanSubscription, Tenant

log = structlog.get_logger(__name__)

#: Bounds the length of one `IN (…)`: SQLite builds differ (999 to 250,000 parameters), 500 fits
#: all.
CHUNK = 500
Item = TypeVar("Item")


def principals_by_digest(
    digests: Collection[str], *, now: datetime | None = None
) -> dict[str, Principal]:
    """The usable keys among `digests`. A digest that is missing from the answer opens nothing.

    Two queries for each 500 digests, however many tenants they belong to.
    """
    at = now or timezone.now()
    found: dict[str, Principal] = {}
    for chunk in chunks(sorted(set(digests))):
        keys = list(APIKey.objects.usable(at).filter(digest__in=chunk).select_related("tenant"))
        plans = _plans_of({key.tenant_id for key in keys})
        for key in keys:
            lists = _lists_of(key)
            if lists is None:
                continue
            scopes, networks, origins = lists
            plan_code, limits = plans.get(key.tenant_id, ("", NO_LIMITS))
            found[key.digest] = Principal(
                tenant_id=key.tenant_id,
                tenant_slug=key.tenant.slug,
                key_id=key.pk,
                key_prefix=key.prefix,
                environment=Environment(key.environment),
                plan_code=plan_code,
                scopes=scopes,
                limits=limits,
                expires_at=key.expires_at,
                digest=key.digest,
                family_id=key.family_id,
                networks=networks,
                origins=origins,
                rate=(
                    Rate(key.rate_per_minute, key.rate_burst or key.rate_per_minute)
                    if key.rate_per_minute
                    else None
                ),
            )
    return found


def _lists_of(
    key: APIKey,
) -> tuple[frozenset[str], tuple[Network, ...], frozenset[str]] | None:
    """The scopes, networks and origins of a key; None when a row says nonsense, as an import or a
    hand in the database may write it. Then that key alone is refused, not all that are asked for
    with it."""
    for name in ("scopes", "allowed_networks", "allowed_origins"):
        texts = getattr(key, name)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            log.error("key_unreadable", key=key.prefix, field=name)
            return None
    try:
        networks = tuple(ip_network(text) for text in key.allowed_networks)
    except ValueError:
        log.error("key_unreadable", key=key.prefix, field="allowed_networks")
        return None
    return frozenset(key.scopes), networks, frozenset(key.allowed_origins)


def family_of(key: APIKey) -> APIKeyQuerySet:
    """All keys of the rotations that `key` is of, itself among them; the newest first."""
    return APIKey.objects.filter(Q(pk=key.family_id) | Q(first_key=key.family_id))


def digests_of_tenant(tenant_id: int) -> list[str]:
    """The digests of all keys of a tenant, also of those that open nothing any more."""
    return list(APIKey.objects.for_tenant(tenant_id).values_list("digest", flat=True))


def digests_on_plan(plan_id: int) -> list[str]:
    """The digests of the usable keys of all tenants that are on a plan now."""
    tenants = PlanSubscription.objects.current().filter(plan=plan_id).values("tenant")
    return list(
        APIKey.objects.usable(timezone.now())
        .filter(tenant__in=tenants)
        .values_list("digest", flat=True)
    )


def tenant_ids_of_keys(key_ids: Iterable[int]) -> dict[int, int]:
    """Tenant id by key id, for the keys that exist."""
    found: dict[int, int] = {}
    for chunk in chunks(sorted(set(key_ids))):
        found.update(APIKey.objects.filter(pk__in=chunk).values_list("pk", "tenant_id"))
    return found


def current_plan_subscription(tenant: Tenant | int) -> PlanSubscription | None:
    """The plan a tenant is on now."""
    return PlanSubscription.objects.for_tenant(tenant).current().select_related("plan").first()


def _plans_of(tenant_ids: Collection[int]) -> dict[int, tuple[str, Limits]]:
    rows = (
        PlanSubscription.objects.current()
        .filter(tenant__in=tenant_ids)
        .values_list(
            "tenant_id",
            "plan__code",
            "plan__quota__max_connections",
            "plan__quota__max_subscriptions",
            "plan__quota__max_lag_s",
        )
    )
    return {
        tenant_id: (
            code,
            Limits(
                max_connections=connections or 0,
                max_subscriptions=subscriptions or 0,
                max_lag_s=float(max_lag_s or DEFAULT_MAX_LAG_S),
            ),
        )
        for tenant_id, code, connections, subscriptions, max_lag_s in rows
    }


def chunks(items: list[Item]) -> Iterable[list[Item]]:
    """`items` in lists short enough for one `IN (…)`."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
