"""Writes: incidents and what is said of them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from gateway.operations.models import Incident, IncidentUpdate

State = IncidentUpdate.State


@transaction.atomic
def open_incident(
    *,
    title: str,
    text: str,
    impact: str = Incident.Impact.MINOR,
    state: str = State.INVESTIGATING,
    affects: str = "",
    started_at: datetime | None = None,
    by: str = "",
) -> Incident:
    """An incident and the first thing said of it."""
    incident = Incident.objects.create(
        title=title, impact=impact, affects=affects, started_at=started_at or timezone.now()
    )
    add_update(incident, state=state, text=text, by=by)
    return incident


@transaction.atomic
def add_update(incident: Incident, *, state: str, text: str, by: str = "") -> IncidentUpdate:
    """Say something more; `resolved` ends the incident, anything else begins it again."""
    now = timezone.now()
    update = IncidentUpdate.objects.create(
        incident=incident, state=state, text=text, by=by[:150], at=now
    )
    resolved_at = now if state == State.RESOLVED else None
    Incident.objects.filter(pk=incident.pk).update(resolved_at=resolved_at)
    incident.resolved_at = resolved_at
    return update
