"""Reads: a tenant's failed requests, and how many there are of each kind."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count
from django.utils.translation import gettext as _

from gateway.requests.models import RequestRecord, RequestRecordQuerySet
from tenants.models import Tenant

#: What a list can be narrowed by.
FACETS = ("door", "kind", "status", "code", "key_prefix")
#: Values shown of each.
MAX_VALUES = 50


def requests_of(tenant: Tenant, *, since: datetime, **chosen: str | int) -> RequestRecordQuerySet:
    """A tenant's records since a moment, newest first, with these values of `FACETS`. Raises
    ValueError for another name."""
    if unknown := chosen.keys() - set(FACETS):
        raise ValueError(
            _("no facet %(name)r; there are %(known)s")
            % {"name": sorted(unknown)[0], "known": ", ".join(FACETS)}
        )
    return RequestRecord.objects.for_tenant(tenant).filter(at__gte=since, **chosen)


def facets(records: RequestRecordQuerySet) -> dict[str, list[tuple[str | int, int]]]:
    """By facet: its values with how many records have them, the most frequent first."""
    found: dict[str, list[tuple[str | int, int]]] = {}
    for name in FACETS:
        counted = records.order_by().values_list(name).annotate(count=Count("pk"))
        found[name] = list(counted.order_by("-count", name)[:MAX_VALUES])
    return found
