"""Reads of tenants and keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from ipaddress import ip_network
from typing import TypeVar

import structlog
from django.db.models import Q
from django.utils import timezone

from tenants import metrics
from tenants.admission.caps import USED_UP
from tenants.admission.continued import continued
from tenants.admission.keys import WEB_DIGEST, Environment
from tenants.admission.limiter import Rate
from tenants.admission.principal import (
    DEFAULT_MAX_LAG_S,
    NO_LIMITS,
    THRESHOLDS,
    Allowed,
    Limits,
    Network,
    Principal,
)
from tenants.admission.rails import Rails
from tenants.models import (
    Allowance,
    APIKey,
    APIKeyQuerySet,
    ExchangeRails,
    PlanSubscription,
    QuotaFields,
    QuotaOverride,
    Tenant,
)

log = structlog.get_logger(__name__)

#: Bounds the length of one `IN (…)`: SQLite builds differ (999 to 250,000 parameters), 500 fits
#: all.
CHUNK = 500
Item = TypeVar("Item")


def principals_by_digest(
    digests: Collection[str], *, now: datetime | None = None
) -> dict[str, Principal]:
    """The usable keys among `digests`. A digest that is missing from the answer opens nothing.

    Five queries for each 500 digests, however many tenants they belong to; of dashboard tokens
    too.
    """
    from tenants import dashboard_tokens  # which knows people, and those know this room

    at = now or timezone.now()
    found: dict[str, Principal] = {}
    tokens = {digest for digest in digests if digest.startswith(WEB_DIGEST)}
    for chunk in chunks(sorted(tokens)):
        found |= dashboard_tokens.principals(chunk, at, _limits_of)
    for chunk in chunks(sorted(set(digests) - tokens)):
        rows = APIKey.objects.usable(at).filter(digest__in=chunk)
        keys = list(rows.select_related("tenant__alert_choice"))
        tenant_ids = {key.tenant_id for key in keys}
        limits_of, allowances_of = _limits_of(tenant_ids), _allowances_of(tenant_ids, at)
        rails_of = _rails_of({key.family_id for key in keys})
        for key in keys:
            lists = _lists_of(key)
            if lists is None:
                continue
            scopes, networks, origins = lists
            plan_code, limits = limits_of.get(key.tenant_id, ("", NO_LIMITS))
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
                daily_quota=key.daily_quota,
                monthly_quota=key.monthly_quota,
                allowances=allowances_of.get(key.tenant_id, ()),
                thresholds=thresholds_of(key.tenant),
                rails=rails_of.get(key.family_id),
            )
    return found


def thresholds_of(tenant: Tenant) -> tuple[int, ...]:
    """At which percentages a tenant is told, the least first; the usual ones where it chose none,
    and where a hand in the database wrote what are none."""
    choice = getattr(tenant, "alert_choice", None)
    if choice is None:
        return THRESHOLDS
    given = choice.thresholds
    if not isinstance(given, list) or not all(type(one) is int and one > 0 for one in given):
        log.error("thresholds_unreadable", tenant=tenant.pk)
        return THRESHOLDS
    # What is used up is told in any case: connections end by it.
    return tuple(sorted({*given, USED_UP}))


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


def _limits_of(tenant_ids: Collection[int]) -> dict[int, tuple[str, Limits]]:
    """The code of each tenant's plan, and its limits: its own, else the plan's."""
    found = {}
    current = PlanSubscription.objects.current().filter(tenant__in=tenant_ids)
    for subscription in current.select_related("plan__quota"):
        quota = getattr(subscription.plan, "quota", None)
        limits = NO_LIMITS if quota is None else _limits(quota)
        found[subscription.tenant_id] = (subscription.plan.code, limits)
    for override in QuotaOverride.objects.filter(tenant__in=tenant_ids):
        code, _ = found.get(override.tenant_id, ("", NO_LIMITS))
        found[override.tenant_id] = (code, _limits(override))
    return found


def _limits(quota: QuotaFields) -> Limits:
    rate = None
    if quota.requests_per_s:
        rate = Rate(60 * quota.requests_per_s, quota.burst or quota.requests_per_s)
    return Limits(
        max_connections=quota.max_connections,
        max_subscriptions=quota.max_subscriptions,
        max_lag_s=float(quota.max_lag_s or DEFAULT_MAX_LAG_S),
        max_coins=quota.max_coins,
        max_users=quota.max_users,
        rate=rate,
        retention_hours=quota.retention_hours,
        products=_words(quota.products),
        channels=_words(quota.channels),
        regions=_words(quota.regions),
    )


def _rails_of(families: Collection[int]) -> dict[int, Rails]:
    rows = ExchangeRails.objects.filter(key__in=families)
    return {row.key_id: _rails(row) for row in rows}


def _rails(row: ExchangeRails) -> Rails:
    """The rails of a row. One that says nonsense stops everything: what its owner wanted stopped is
    not known."""
    lists = (row.signers, row.kinds, row.coins)
    if not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists
    ):
        log.error("rails_unreadable", key=row.key_id)
        return Rails(is_killed=True)
    signers, kinds, coins = map(frozenset, lists)
    return Rails(
        row.is_killed,
        row.is_cancel_only,
        signers,
        kinds,
        coins,
        row.max_order_usd,
        row.max_minute_usd,
    )


def _words(words: list[str] | None) -> frozenset[str] | None:
    return None if words is None else frozenset(words)


def allowances_of(tenant_id: int, now: datetime) -> tuple[Allowed, ...]:
    """What a tenant may use up, now and later."""
    return _allowances_of([tenant_id], now).get(tenant_id, ())


def _allowances_of(tenant_ids: Collection[int], now: datetime) -> dict[int, tuple[Allowed, ...]]:
    found: dict[int, list[Allowed]] = defaultdict(list)
    last: dict[int, list[Allowed]] = defaultdict(list)
    current = Q(ends_at__gt=now) | Q(goes_on=True)
    rows = Allowance.objects.filter(current, tenant__in=tenant_ids)
    for row in rows.order_by("tenant", "starts_at", "code"):
        allowed = Allowed(
            code=row.code,
            metric=row.metric,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            units=row.units,
            is_hard=row.is_hard,
            channels=tuple(row.channels),
            weights=tuple(sorted((name, str(weight)) for name, weight in row.weights.items())),
        )
        if row.ends_at > now:
            found[row.tenant_id].append(allowed)
        if row.goes_on:
            last[row.tenant_id].append(allowed)
    for tenant_id, allowances in last.items():
        metrics.continued_allowances.inc(tenant_id not in found)
        found[tenant_id] += continued(allowances, now)
    return {tenant_id: tuple(allowances) for tenant_id, allowances in found.items()}


def chunks(items: list[Item]) -> Iterable[list[Item]]:
    """`items` in lists short enough for one `IN (…)`."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
