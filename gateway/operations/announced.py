"""Announcements and open incidents, as the dashboard shows them above its pages."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from gateway.dashboard.announcements import Announcement as Line
from gateway.operations import status
from gateway.operations.models import Announcement, Incident
from tenants.models import Tenant


def to_everybody(tenant: Tenant) -> Iterable[Line]:
    """What is kept of the status anyway, so that no page of the dashboard asks for it."""
    found = status.current()
    for each in found.announcements:
        level = "warning" if each.level == Announcement.Level.WARNING else "info"
        text = f"{each.title}: {each.text}" if each.text else each.title
        yield Line(text, level, each.link)
    for incident in found.open_incidents:
        is_planned = incident.impact == Incident.Impact.MAINTENANCE
        words = _("Maintenance: %(title)s") if is_planned else _("Incident: %(title)s")
        yield Line(words % {"title": incident.title}, "warning", "/status/")
