"""A tenant's webhook endpoints, the log of what was delivered to them, and delivering again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from gateway.account.errors import Conflict, NotFound
from gateway.account.keys import bad_value
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from tenants.models import Delivery, DeliveryAttempt, Tenant, WebhookEndpoint
from tenants.notices import services
from tenants.notices.services import ShownSecret

#: Why an endpoint is disabled that its owner disabled.
BY_OWNER = gettext_noop("by you")


def endpoints(tenant: Tenant) -> list[WebhookEndpoint]:
    """All, the newest first, those that are disabled too. One statement."""
    return list(WebhookEndpoint.objects.filter(tenant=tenant)[:_MAX_SHOWN])


def endpoint(tenant: Tenant, uid: uuid.UUID | str) -> WebhookEndpoint:
    """One. Raises NotFound."""
    found = WebhookEndpoint.objects.filter(tenant=tenant, uid=_uid(uid)).first()
    if found is None:
        raise NotFound(_("There is no such webhook."))
    return found


def add(tenant: Tenant, *, url: str, kinds: Iterable[str] = ()) -> ShownSecret:
    """A new endpoint; its secret is in the answer and nowhere else. Raises BadValue."""
    try:
        return services.add_endpoint(tenant=tenant, url=url, kinds=kinds)
    except ValidationError as error:
        raise bad_value(error) from None


def update(
    tenant: Tenant,
    uid: uuid.UUID | str,
    *,
    url: str | None = None,
    kinds: Iterable[str] | None = None,
    is_enabled: bool | None = None,
) -> WebhookEndpoint:
    """Change what is given; disabling abandons what is on its way. Raises NotFound, BadValue."""
    found = endpoint(tenant, uid)
    try:
        if url is not None or kinds is not None:
            services.update_endpoint(
                found,
                url=found.url if url is None else url,
                kinds=found.kinds if kinds is None else kinds,
            )
        if is_enabled is True:
            services.enable_endpoint(found)
        elif is_enabled is False:
            services.disable_endpoint(found, reason=BY_OWNER)
    except ValidationError as error:
        raise bad_value(error) from None
    return endpoint(tenant, uid)


def rotate_secret(
    tenant: Tenant, uid: uuid.UUID | str, *, overlap: timedelta = services.DEFAULT_OVERLAP
) -> ShownSecret:
    """A new secret; for `overlap` both sign. Raises NotFound, BadValue."""
    try:
        return services.rotate_secret(endpoint(tenant, uid), overlap=overlap)
    except ValidationError as error:
        raise bad_value(error) from None


def ping(tenant: Tenant, uid: uuid.UUID | str) -> Delivery:
    """Send a notice that says nothing. Raises NotFound, and Conflict where it is disabled."""
    try:
        return services.ping(endpoint(tenant, uid))
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from None


def delivery_page(
    tenant: Tenant,
    *,
    endpoint_uid: uuid.UUID | str | None = None,
    state: str = "",
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
) -> Page[Delivery]:
    """Deliveries to endpoints with their `notice` and `endpoint`, the newest first; those in one
    `Delivery.State`. One statement. Raises BadValue and BadCursor."""
    rows = _deliveries(tenant)
    if endpoint_uid is not None:
        rows = rows.filter(endpoint=endpoint(tenant, endpoint_uid))
    if state:
        rows = rows.filter(state=state)
    order = ("-created_at", "-pk")
    return page(rows, order, of="deliveries", tenant_id=tenant.pk, cursor=cursor, limit=limit)


def delivery(tenant: Tenant, uid: uuid.UUID | str) -> Delivery:
    """One, with its attempts (`log`), the newest first. Raises NotFound."""
    log = Prefetch("log", DeliveryAttempt.objects.order_by("-ended_at", "-pk"))
    found = _deliveries(tenant).prefetch_related(log).filter(uid=_uid(uid)).first()
    if found is None:
        raise NotFound(_("There is no such delivery."))
    return found


def replay(tenant: Tenant, uid: uuid.UUID | str) -> Delivery:
    """Deliver again, under the same id. Raises NotFound, and Conflict where the endpoint is
    disabled."""
    try:
        services.replay(delivery(tenant, uid))
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from None
    return delivery(tenant, uid)


#: Enabled ones are 20 at most; those that were disabled once stay, for their log.
_MAX_SHOWN = 500


def _deliveries(tenant: Tenant) -> QuerySet[Delivery]:
    rows = Delivery.objects.filter(tenant=tenant, endpoint__isnull=False)
    return rows.select_related("notice", "endpoint")


def _uid(text: Any) -> uuid.UUID:
    try:
        return text if isinstance(text, uuid.UUID) else uuid.UUID(str(text))
    except ValueError:
        raise NotFound(_("There is nothing with such an id.")) from None
