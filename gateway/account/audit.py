"""Who changed what in an account, and who of the relay's company looked at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from gateway.account.errors import BadValue
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from tenants.models import Membership, Tenant, TenantLogEntry

#: What can be asked for, by the name of the model.
KINDS = (
    "tenant",
    "membership",
    "invitation",
    "apikey",
    "exchangerails",
    "plansubscription",
    "billingprofile",
    "webhookendpoint",
    "quotaoverride",
)
#: Who is not named: people of the relay's company, and the relay itself.
SUPPORT, RELAY = "support", "relay"
_ACTS = {
    LogEntry.Action.CREATE: "created",
    LogEntry.Action.UPDATE: "changed",
    LogEntry.Action.DELETE: "removed",
    LogEntry.Action.ACCESS: "looked at",
}
#: Of a value that is shown.
_MAX_CHARS = 120
#: Fields that say nothing to anybody.
_SILENT = frozenset({"id", "tenant", "created_at", "updated_at"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`who` is a member's address, `support` or `relay`; `from_address` is only told of members.
    `changes` are a field, its value before and after."""

    at: datetime
    who: str
    from_address: str
    act: str
    kind: str
    what: str
    reason: str
    changes: tuple[tuple[str, str, str], ...]


def entries(
    tenant: Tenant,
    *,
    actor: str = "",
    kind: str = "",
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
) -> Page[Entry]:
    """The newest first; of one `actor` (a member's user id, `support` or `relay`), of one `kind`.
    Two statements. Raises BadValue and BadCursor."""
    rows = TenantLogEntry.objects.filter(tenant=tenant)
    if kind:
        if kind not in KINDS:
            raise BadValue(
                _("kind: %(kind)r is none of %(known)s.")
                % {"kind": kind[:40], "known": ", ".join(KINDS)}
            )
        rows = rows.filter(
            entry__content_type__app_label="tenants", entry__content_type__model=kind
        )
    members = Membership.objects.for_tenant(tenant)
    if actor == RELAY:
        rows = rows.filter(entry__actor=None)
    elif actor == SUPPORT:
        rows = rows.filter(entry__actor__is_staff=True).exclude(
            entry__actor__in=members.values("user")
        )
    elif actor:
        if not (actor.isascii() and actor.isdigit() and len(actor) < 19):
            raise BadValue(_("actor: a member's number, support or relay."))
        rows = rows.filter(entry__actor=int(actor)).exclude(
            entry__actor__is_staff=True,
            entry__actor__in=User.objects.exclude(pk__in=members.values("user")),
        )
    found = page(
        rows.select_related("entry__actor", "entry__content_type"),
        ("-entry_id",),
        of=f"audit.{actor}.{kind}",
        tenant_id=tenant.pk,
        cursor=cursor,
        limit=limit,
    )
    insiders = set(members.values_list("user_id", flat=True))
    return Page([_entry(row.entry, insiders) for row in found.rows], found.next_cursor)


def every_entry(tenant: Tenant) -> Iterator[Entry]:
    """All of them, the oldest first, some at a time."""
    insiders = set(Membership.objects.for_tenant(tenant).values_list("user_id", flat=True))
    last = 0
    rows = TenantLogEntry.objects.filter(tenant=tenant).select_related(
        "entry__actor", "entry__content_type"
    )
    while chunk := list(rows.filter(entry_id__gt=last).order_by("entry_id")[:500]):
        yield from (_entry(row.entry, insiders) for row in chunk)
        last = chunk[-1].entry_id


def _entry(entry: LogEntry, insiders: set[int]) -> Entry:
    actor = entry.actor
    is_known = actor is not None and (actor.pk in insiders or not actor.is_staff)
    who = RELAY if actor is None else (actor.email or actor.username) if is_known else SUPPORT
    more = entry.additional_data if isinstance(entry.additional_data, dict) else {}
    return Entry(
        at=entry.timestamp,
        who=who,
        from_address=(entry.remote_addr or "") if is_known else "",
        act=_ACTS.get(entry.action, ""),
        kind=entry.content_type.model,
        what=entry.object_repr,
        reason=str(more.get("reason", "")),
        changes=tuple(_changes(entry)),
    )


def _changes(entry: LogEntry) -> Iterator[tuple[str, str, str]]:
    changed: dict[str, Any] = entry.changes_dict or {}
    for name, values in changed.items():
        if name in _SILENT or not isinstance(values, list) or len(values) != 2:
            continue
        before, after = (_text(value) for value in values)
        if before != after:
            yield name.replace("_", " "), before, after


def _text(value: object) -> str:
    text = "" if value in (None, "None") else str(value)
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
