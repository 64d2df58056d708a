"""The entries of the audit as people read them: a model's own fields by readable names, and values
without the database's ways of writing them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.db import models

from tenants.models import Plan

#: Of a value that is shown.
_MAX_CHARS = 120
#: Fields that say nothing to anybody: what every row has, and what another field says too.
_SILENT = frozenset(
    {
        *("id", "uid", "tenant", "created_at", "updated_at"),
        *("first_key", "key", "is_dashboard", "is_current", "is_open"),
    }
)
#: Where the model's own name for a field is for whoever reads the code.
_READABLE = {
    "slug": "short name",
    "suspend_reason": "announced reason",
    "requires_second_factor": "second factor asked of everybody",
    "generation": "secrets so far",
    "kinds": "events",
    "requests_per_s": "requests a second",
    "retention_hours": "hours of history",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What ids in entries stand for, by model and id as text."""

    labels: Mapping[type[models.Model], Mapping[str, str]]

    def changes(self, entry: LogEntry) -> Iterator[tuple[str, str, str]]:
        """Each field that differs as it is read: its name, its value before and after; the model's
        own fields, in its order."""
        changed: dict[str, Any] = entry.changes_dict or {}
        for field in _fields_of(entry):
            values = changed.get(field.name)
            if not isinstance(values, list) or len(values) != 2:
                continue
            before, after = (self._text(field, value) for value in values)
            if before != after:
                yield readable(field), before, after

    def _text(self, field: models.Field[Any, Any], value: object) -> str:
        if value in (None, "", "None"):
            return ""
        text = str(value)
        if isinstance(field, models.ForeignKey):
            known = self.labels.get(field.related_model, {})
            text = known.get(text, "")
        elif isinstance(field, models.BooleanField):
            text = {"True": "yes", "False": "no"}.get(text, text)
        elif isinstance(field, models.DateTimeField):
            text = _minute(text)
        elif isinstance(field, models.JSONField):
            text = _listed(text)
        return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"


def names_of(entries: Sequence[LogEntry], name: Callable[[User], str]) -> Names:
    """Of all these entries, in a statement for each model that they point to; `name` says how
    somebody is called."""
    ids: dict[Any, set[int]] = {Plan: set(), User: set()}
    for entry in entries:
        changed: dict[str, Any] = entry.changes_dict or {}
        for field in _fields_of(entry):
            values = changed.get(field.name)
            if field.related_model in ids and isinstance(values, list):
                ids[field.related_model] |= {int(one) for one in values if str(one).isdecimal()}
    plans: Iterable[Plan] = Plan.objects.filter(pk__in=ids[Plan]) if ids[Plan] else ()
    users: Iterable[User] = User.objects.filter(pk__in=ids[User]) if ids[User] else ()
    return Names(
        {
            Plan: {str(plan.pk): plan.name for plan in plans},
            User: {str(user.pk): name(user) for user in users},
        }
    )


def readable(field: models.Field[Any, Any]) -> str:
    """The name of a field."""
    own = str(field.verbose_name)
    # Whose own names say more are those that somebody gave.
    return _READABLE.get(field.name, own) if own == field.name.replace("_", " ") else own


def _fields_of(entry: LogEntry) -> list[models.Field[Any, Any]]:
    """The model's own, and not what points to it; none where the model is gone."""
    model = entry.content_type.model_class()
    fields = [] if model is None else model._meta.concrete_fields
    return [field for field in fields if field.name not in _SILENT]


def _minute(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


def _listed(text: str) -> str:
    """`["ws", "info"]` as `ws, info`."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "" if value is None else str(value)
