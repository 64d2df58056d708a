"""A tenant's failed and refused requests: a list, one, and how many there are of each kind."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from gateway.account.errors import BadValue, NotFound
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from gateway.requests import selectors
from gateway.requests.models import RequestRecord, RequestRecordQuerySet
from tenants.models import Tenant

DEFAULT_SINCE = timedelta(days=1)
FACETS = selectors.FACETS


def request_page(
    tenant: Tenant,
    *,
    since: datetime | None = None,
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
    **chosen: str | int,
) -> Page[RequestRecord]:
    """Records since a moment (by default of a day) with these values of `FACETS`, the newest first.
    One statement. Raises BadValue and BadCursor."""
    order = ("-at", "-pk")
    rows = _rows(tenant, since, chosen)
    return page(rows, order, of="requests", tenant_id=tenant.pk, cursor=cursor, limit=limit)


def facets(
    tenant: Tenant, *, since: datetime | None = None, **chosen: str | int
) -> dict[str, list[tuple[str | int, int]]]:
    """By facet: its values with how many records have them. A statement for each facet. Raises
    BadValue."""
    return selectors.facets(_rows(tenant, since, chosen))


def request(tenant: Tenant, request_id: str) -> RequestRecord:
    """The newest with this id. Raises NotFound."""
    found = RequestRecord.objects.for_tenant(tenant).filter(request_id=request_id).first()
    if found is None:
        raise NotFound(_("There is no record of such a request: those that went well leave none."))
    return found


def _rows(
    tenant: Tenant, since: datetime | None, chosen: dict[str, str | int]
) -> RequestRecordQuerySet:
    now = timezone.now()
    if since is not None and now - since > timedelta(days=settings.RELAY_KEEP_REQUESTS_DAYS + 1):
        raise BadValue(
            _("since: records are kept %(days)s days.")
            % {"days": settings.RELAY_KEEP_REQUESTS_DAYS}
        )
    try:
        return selectors.requests_of(tenant, since=since or now - DEFAULT_SINCE, **chosen)
    except ValueError as error:
        raise BadValue(_("%(why)s.") % {"why": error}) from None
