"""Dashboard tokens: made for a member's browser, ended with its log-in.

A token is a row and not a signed text, because it must end with a log-out, a changed password and a
lost membership: the door asks the same directory as for keys, which asks again every two seconds
about what is open, and hears at once of what is announced. Nothing of it is signed, so whoever has
only the secret key can make none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from tenants.admission import changes, keys
from tenants.admission.access import parse_origin
from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate
from tenants.admission.principal import NO_LIMITS, Limits, Principal, Scope
from tenants.models import APIKey, DashboardToken, Membership, Tenant
from tenants.people.actors import allowed, lock

#: How long a token opens anything; a page takes the next one before.
LIFE = timedelta(minutes=15)
#: Of one log-in at one time: a few pages, each with the token it had and the next. The oldest goes.
MAX_TOKENS = 12
#: Of a tenant's dashboards together, however large its plan: enough to look, not to trade by.
MAX_CONNECTIONS = 12
MAX_SUBSCRIPTIONS = 96
MAX_USERS = 4
#: Weight a minute, and at once, of what pages ask over `/info` or `post`.
RATE = Rate(1_200, 400)
SCOPES = frozenset({str(Scope.WS), str(Scope.INFO)})


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token and, this once, the token itself."""

    expires_at: datetime
    raw: str = field(repr=False)


@transaction.atomic
def issue_token(
    *, by: Membership, session_key: str, origin: str, now: datetime | None = None
) -> IssuedToken:
    """A token for a page of `origin` (`https://relay.example`) in the log-in `session_key`.

    Raises PermissionDenied for who is no member any more, and without a log-in; ValueError for what
    is no origin.
    """
    at = now or timezone.now()
    if not session_key:
        raise PermissionDenied(_("Only somebody signed in has a dashboard."))
    tenant = lock(by.tenant_id)
    allowed(by, tenant)
    _counting_key(tenant.pk, at)
    mine = DashboardToken.objects.filter(membership=by)
    mine.filter(expires_at__lte=at).delete()
    alive = mine.filter(session_key=session_key).order_by("-created_at", "-pk")
    _end(alive[MAX_TOKENS - 1 :])
    raw = keys.generate(Environment.WEB)
    token = DashboardToken.objects.create(
        membership=by,
        session_key=session_key,
        prefix=keys.shown(raw),
        digest=keys.digest(raw, settings.RELAY_KEY_PEPPER),
        origin=parse_origin(origin),
        created_at=at,
        expires_at=at + LIFE,
    )
    return IssuedToken(token.expires_at, raw)


@transaction.atomic
def end_session(session_key: str | None) -> int:
    """End the tokens of a log-in, and what is open with them, at once; how many there were."""
    return _end(DashboardToken.objects.filter(session_key=session_key or "")) if session_key else 0


@transaction.atomic
def end_all_of(tenant: Tenant) -> int:
    """The same of all log-ins of a tenant's people."""
    return _end(DashboardToken.objects.filter(membership__tenant=tenant))


@transaction.atomic
def end_membership(membership: Membership) -> int:
    """End the tokens of a member who leaves, and what is open with them, at once."""
    return _end(DashboardToken.objects.filter(membership=membership))


def principals(digests: Collection[str], now: datetime, limits_of: Any) -> dict[str, Principal]:
    """The tokens among `digests` that open anything: not expired, of a member who is active in a
    tenant that is not suspended, in a log-in that is still one. `limits_of` are plans' limits by
    tenant id, asked once."""
    rows = list(
        DashboardToken.objects.filter(
            digest__in=digests,
            expires_at__gt=now,
            membership__user__is_active=True,
            membership__tenant__suspended_at=None,
        ).select_related("membership__user", "membership__tenant")
    )
    if not rows:
        return {}
    sessions = {
        session.session_key: session.get_decoded()
        for session in Session.objects.filter(
            session_key__in={row.session_key for row in rows}, expire_date__gt=now
        )
    }
    tenant_ids = {row.membership.tenant_id for row in rows}
    counted_under = dict(
        APIKey.objects.filter(tenant__in=tenant_ids, is_dashboard=True).values_list(
            "tenant_id", "pk"
        )
    )
    limits = limits_of(tenant_ids)
    found = {}
    for row in rows:
        tenant = row.membership.tenant
        if not _is_signed_in(row.membership.user, sessions.get(row.session_key, {})):
            continue
        plan_code, plan_limits = limits.get(tenant.pk, ("", NO_LIMITS))
        found[row.digest] = Principal(
            tenant_id=tenant.pk,
            tenant_slug=tenant.slug,
            key_id=counted_under[tenant.pk],
            key_prefix=row.prefix,
            environment=Environment.WEB,
            plan_code=plan_code,
            scopes=SCOPES,
            limits=narrowed(plan_limits),
            expires_at=row.expires_at,
            digest=row.digest,
            family_id=counted_under[tenant.pk],
            origins=frozenset({row.origin}),
            rate=RATE,
        )
    return found


def narrowed(plan: Limits) -> Limits:
    """What dashboards may hold open within a plan: its channels and history, and little at one
    time. Their doors are open on every plan that opens any; their rate is their own."""
    if not plan.max_connections:
        return NO_LIMITS
    return replace(
        plan,
        max_connections=MAX_CONNECTIONS,
        max_subscriptions=MAX_SUBSCRIPTIONS,
        max_coins=None,
        max_users=MAX_USERS,
        rate=None,
        # What a plan has not, a page of it has not either: the sandbox above all.
        products=None if plan.products is None else plan.products | SCOPES,
        regions=None,
    )


def _is_signed_in(user: User, session: dict[str, Any]) -> bool:
    """Whether a session is a log-in of `user` with the password of now."""
    if session.get("_auth_user_id") != str(user.pk):
        return False
    told = str(session.get("_auth_user_hash", ""))
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(told, made) for made in hashes)


def _end(tokens: Any) -> int:
    digests = [token.digest for token in tokens]
    if digests:
        DashboardToken.objects.filter(digest__in=digests).delete()
        transaction.on_commit(partial(changes.announce, digests))
    return len(digests)


def _counting_key(tenant_id: int, at: datetime) -> APIKey:
    """What the tenant's dashboards are counted under; made once, while the tenant's row is held."""
    found = APIKey.objects.filter(tenant=tenant_id, is_dashboard=True).first()
    if found is not None:
        return found
    raw = keys.generate(Environment.WEB)  # which nobody ever learns
    return APIKey.objects.create(
        tenant_id=tenant_id,
        name="Dashboard",
        prefix="hlr_web_",
        digest=keys.digest(raw),
        scopes=sorted(SCOPES),
        created_at=at,
        revoked_at=at,
        is_dashboard=True,
    )
