"""Announcements and open incidents, as the dashboard shows them above its pages."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import timezone
from django.utils.translation import gettext as _

from gateway.dashboard.announcements import Announcement as Line
from gateway.operations import selectors
from gateway.operations.models import Announcement, Incident
from tenants.models import Tenant


def to_everybody(tenant: Tenant) -> Iterable[Line]:
    """What every tenant is to see now. Two queries, always: pages count theirs."""
    now = timezone.now()
    for each in selectors.announcements(now):
        level = "warning" if each.level == Announcement.Level.WARNING else "info"
        text = f"{each.title}: {each.text}" if each.text else each.title
        yield Line(text, level, each.link)
    for incident in selectors.under_way(now):
        is_planned = incident.impact == Incident.Impact.MAINTENANCE
        words = _("Maintenance: %(title)s") if is_planned else _("Incident: %(title)s")
        yield Line(words % {"title": incident.title}, "warning", "/status/")
