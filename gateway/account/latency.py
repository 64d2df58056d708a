"""How long the HTTP doors took for a tenant, of all its requests."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from gateway.account.errors import BadValue, Unavailable
from gateway.requests.latency import KEPT_HOURS, Latency
from gateway.requests.latency_store import latencies
from tenants.models import Tenant

DEFAULT_HOURS = 24


def by_door(tenant: Tenant, *, hours: int = DEFAULT_HOURS) -> dict[str, Latency]:
    """Of the last hours, by door; a door that was not asked is not there. Raises BadValue and
    Unavailable."""
    if not 1 <= hours <= KEPT_HOURS:
        raise BadValue(
            _("hours: %(hours)s is not within 1 and %(most)s.")
            % {"hours": hours, "most": KEPT_HOURS}
        )
    if not settings.REDIS_CACHE_URL:
        return {}
    try:
        return latencies(settings.REDIS_CACHE_URL, tenant.pk, hours=hours)
    except (RedisError, OSError):
        raise Unavailable(_("Latencies cannot be read now: try again.")) from None
