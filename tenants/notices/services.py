"""Telling a tenant something, and where it is told. All writes but those of sending."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.models import Delivery, DeliveryAttempt, Notice, Tenant, WebhookEndpoint
from tenants.notices import doorbell, recipients, signature
from tenants.notices.kinds import PING, WEBHOOK_DISABLED, canonical_dedupe, check_payload
from tenants.wire.targets import TargetPolicy, TargetRefused

#: Endpoints of a tenant that are told: each notice makes a delivery for each.
MAX_ENDPOINTS = 20
#: How long a replaced secret may sign beside its successor.
MAX_OVERLAP = timedelta(days=7)
DEFAULT_OVERLAP = timedelta(hours=24)
BY_AN_OPERATOR = gettext_noop("by an operator")
_FORGET_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class ShownSecret:
    """An endpoint and, this once, the secret it is signed with. `secret` stays out of `repr`."""

    endpoint: WebhookEndpoint
    secret: str = field(repr=False)


@transaction.atomic
def notify(
    *,
    tenant: Tenant,
    kind: str,
    payload: Mapping[str, Any],
    dedupe: str,
    to: Iterable[str] | None = None,
    now: datetime | None = None,
) -> Notice | None:
    """Tell a tenant a fact, once for each `dedupe`; None when it was told before.

    Writes rows only, in the caller's transaction: what is rolled back is never told, what is
    committed is sent soon, and again until it has arrived. `to` are mail addresses; None asks the
    port `recipients`.

    Raises ValueError for an unknown kind, a payload that lacks a field, holds an API key or is no
    JSON, an unusable dedupe, and a bad address.
    """
    at = now or timezone.now()
    check_payload(kind, payload)
    fact = canonical_dedupe(dedupe)
    addresses = _addresses(recipients.of(tenant, kind) if to is None else to)
    if Notice.objects.filter(tenant=tenant, dedupe=fact).exists():
        return None
    try:
        with transaction.atomic():  # so that the caller's transaction outlives the collision
            notice = Notice.objects.create(
                tenant=tenant, kind=kind, payload=dict(payload), dedupe=fact, created_at=at
            )
    except IntegrityError:
        return None  # somebody else told it meanwhile
    endpoints = WebhookEndpoint.objects.filter(tenant=tenant, disabled_at=None)
    wanting = [endpoint for endpoint in endpoints if endpoint.wants(kind)]
    common = {"tenant": tenant, "notice": notice, "next_attempt_at": at, "created_at": at}
    Delivery.objects.bulk_create(
        [Delivery(endpoint=endpoint, **common) for endpoint in wanting]
        + [Delivery(address=address, **common) for address in addresses]
    )
    if wanting:
        transaction.on_commit(doorbell.ring_webhooks)
    if addresses:
        transaction.on_commit(doorbell.ring_mail)
    return notice


def check_url(url: str) -> None:
    """Raises ValidationError for a URL that no endpoint can have."""
    try:
        TargetPolicy(allow_private=settings.RELAY_WEBHOOKS_PRIVATE).check_url(url)
    except TargetRefused as refused:
        raise ValidationError(_("%(why)s.") % {"why": refused.said(_)}) from None


@transaction.atomic
def add_endpoint(*, tenant: Tenant, url: str, kinds: Iterable[str] = ()) -> ShownSecret:
    """An endpoint of a tenant, told `kinds` (none: everything). Its secret is in the answer and
    nowhere else.

    Raises ValidationError. What the URL's name resolves to is judged at each delivery.
    """
    # The tenant's row is the lock: two at once do not get past the limit together.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    _require_room(tenant)
    check_url(url)
    endpoint = WebhookEndpoint(tenant=tenant, url=url, kinds=list(kinds))
    secret = _derive(endpoint)
    endpoint.fingerprint = secret.fingerprint
    endpoint.full_clean()
    endpoint.save()
    return ShownSecret(endpoint, secret.text)


@transaction.atomic
def update_endpoint(endpoint: WebhookEndpoint, *, url: str, kinds: Iterable[str]) -> None:
    """Another URL, other kinds; the secret stays. Raises ValidationError."""
    check_url(url)
    locked = _locked(endpoint)
    locked.url, locked.kinds = url, list(kinds)
    locked.full_clean()
    locked.save(update_fields=["url", "kinds"])


@transaction.atomic
def rotate_secret(
    endpoint: WebhookEndpoint,
    *,
    overlap: timedelta = DEFAULT_OVERLAP,
    now: datetime | None = None,
) -> ShownSecret:
    """A new secret. For `overlap` each request carries two signatures, by the new one and by the
    one it replaces; one that was replaced before that ends at once.

    Raises ValidationError for an overlap that is not within 0 s and 7 d.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise ValidationError(_("The overlap must be within 0 seconds and 7 days."))
    at = now or timezone.now()
    locked = _locked(endpoint)
    has_overlap = overlap > timedelta(0)
    locked.previous_fingerprint = locked.fingerprint if has_overlap else ""
    locked.previous_until = at + overlap if has_overlap else None
    locked.generation += 1
    secret = _derive(locked)
    locked.fingerprint = secret.fingerprint
    locked.save(
        update_fields=["generation", "fingerprint", "previous_fingerprint", "previous_until"]
    )
    return ShownSecret(locked, secret.text)


@transaction.atomic
def disable_endpoint(
    endpoint: WebhookEndpoint, *, reason: str = BY_AN_OPERATOR, now: datetime | None = None
) -> None:
    """Tell it nothing more; what is on its way is abandoned, and can be replayed when it is enabled
    again. Disabling again keeps the first reason."""
    at = now or timezone.now()
    locked = _locked(endpoint)
    if not locked.is_enabled:
        return
    locked.disabled_at, locked.disabled_reason = at, reason[:200] or BY_AN_OPERATOR
    locked.save(update_fields=["disabled_at", "disabled_reason"])
    Delivery.objects.filter(endpoint=locked, state=Delivery.State.PENDING).update(
        state=Delivery.State.ABANDONED, next_attempt_at=None
    )
    notify(
        tenant=locked.tenant,
        kind=WEBHOOK_DISABLED,
        payload={"endpoint": str(locked.uid), "reason": locked.disabled_reason},
        dedupe=f"{WEBHOOK_DISABLED}:{locked.uid}:{at.timestamp():.6f}",
        now=at,
    )


@transaction.atomic
def enable_endpoint(endpoint: WebhookEndpoint) -> None:
    """Tell it again from now on, as if it had never failed. Raises ValidationError beyond the
    limit."""
    Tenant.objects.select_for_update().get(pk=endpoint.tenant_id)
    locked = _locked(endpoint)
    if locked.is_enabled:
        return
    _require_room(locked.tenant)
    locked.disabled_at, locked.disabled_reason = None, ""
    locked.failures, locked.failing_since, locked.retry_at = 0, None, None
    locked.save(
        update_fields=["disabled_at", "disabled_reason", "failures", "failing_since", "retry_at"]
    )


@transaction.atomic
def replay(delivery: Delivery, *, now: datetime | None = None) -> Delivery:
    """Deliver again, with the same id, so that a receiver who has it can tell. Also what was
    delivered: the receiver may have lost it. What is pending is tried now.

    Raises ValidationError when the endpoint is disabled.
    """
    at = now or timezone.now()
    if delivery.endpoint is not None:
        _try_now(_locked(delivery.endpoint))  # endpoint before delivery, as everywhere
    locked = Delivery.objects.select_for_update().get(pk=delivery.pk)
    if locked.state != Delivery.State.PENDING:
        locked.attempts = 0  # the number of the log goes on from what it holds
    locked.state, locked.next_attempt_at = Delivery.State.PENDING, at
    locked.save(update_fields=["state", "next_attempt_at", "attempts"])
    transaction.on_commit(doorbell.ring_webhooks if locked.endpoint_id else doorbell.ring_mail)
    return locked


@transaction.atomic
def ping(endpoint: WebhookEndpoint, *, now: datetime | None = None) -> Delivery:
    """Send a notice that says nothing, once, to see whether it arrives. Raises ValidationError when
    the endpoint is disabled."""
    at = now or timezone.now()
    locked = _locked(endpoint)
    _try_now(locked)
    notice = Notice.objects.create(
        tenant=locked.tenant, kind=PING, dedupe=f"{PING}:{uuid.uuid4()}", created_at=at
    )
    delivery = Delivery.objects.create(
        tenant=locked.tenant, notice=notice, endpoint=locked, next_attempt_at=at, created_at=at
    )
    transaction.on_commit(doorbell.ring_webhooks)
    return delivery


def forget_attempts(*, before: datetime) -> int:
    """Delete the log rows of attempts that ended earlier, in short transactions; answers how many.
    Notices and deliveries stay: they are what keeps a fact from being told twice."""
    forgotten = 0
    while True:
        old = DeliveryAttempt.objects.filter(ended_at__lt=before).order_by("ended_at")
        # MySQL knows no LIMIT in the subquery of a DELETE.
        if not (ids := list(old.values_list("pk", flat=True)[:_FORGET_AT_ONCE])):
            return forgotten
        forgotten += DeliveryAttempt.objects.filter(pk__in=ids).delete()[0]


def _locked(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    return WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)


def _try_now(locked: WebhookEndpoint) -> None:
    if not locked.is_enabled:
        raise ValidationError(
            _("The endpoint is disabled (%(reason)s): enable it.")
            % {"reason": _(locked.disabled_reason)}
        )
    if locked.retry_at is not None:
        locked.retry_at = None
        locked.save(update_fields=["retry_at"])


def _require_room(tenant: Tenant) -> None:
    used = WebhookEndpoint.objects.filter(tenant=tenant, disabled_at=None).count()
    if used >= MAX_ENDPOINTS:
        raise ValidationError(
            _("%(used)s endpoints; at most %(most)s can be enabled: disable one first.")
            % {"used": used, "most": MAX_ENDPOINTS}
        )


def _derive(endpoint: WebhookEndpoint) -> signature.Secret:
    return signature.derive(
        settings.SECRET_KEY, endpoint=endpoint.uid, generation=endpoint.generation
    )


def _addresses(to: Iterable[str]) -> list[str]:
    """Each once. In lower case, because the databases differ on whether that is another one."""
    addresses = sorted({address.strip().lower() for address in to})
    for address in addresses:
        try:
            validate_email(address)
        except ValidationError:
            raise ValueError(f"not a mail address: {address[:80]!r}") from None
    return addresses
