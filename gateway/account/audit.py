"""Who changed what in an account, and who of the relay's company looked at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from gateway.account.audit_words import Names, names_of
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
    "alertchoice",
)
#: Who is not named: people of the relay's company, and the relay itself.
SUPPORT, RELAY = "support", "relay"
_ACTS = {
    LogEntry.Action.CREATE: "created",
    LogEntry.Action.UPDATE: "changed",
    LogEntry.Action.DELETE: "removed",
    LogEntry.Action.ACCESS: "looked at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`who` is a member's address, `support` or `relay`; `from_address` is only told of members.
    `changes` are a field by its readable name, its value before and after."""

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
    Four statements at most. Raises BadValue and BadCursor."""
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
    names = names_of([row.entry for row in found.rows], partial(_name, insiders))
    shown = [_entry(row.entry, insiders, names) for row in found.rows]
    return Page(shown, found.next_cursor)


def every_entry(tenant: Tenant) -> Iterator[Entry]:
    """All of them, the oldest first, some at a time."""
    insiders = set(Membership.objects.for_tenant(tenant).values_list("user_id", flat=True))
    last = 0
    rows = TenantLogEntry.objects.filter(tenant=tenant).select_related(
        "entry__actor", "entry__content_type"
    )
    while chunk := list(rows.filter(entry_id__gt=last).order_by("entry_id")[:500]):
        names = names_of([row.entry for row in chunk], partial(_name, insiders))
        yield from (_entry(row.entry, insiders, names) for row in chunk)
        last = chunk[-1].entry_id


def _is_known(insiders: set[int], user: User) -> bool:
    return user.pk in insiders or not user.is_staff


def _name(insiders: set[int], user: User) -> str:
    return (user.email or user.username) if _is_known(insiders, user) else SUPPORT


def _entry(entry: LogEntry, insiders: set[int], names: Names) -> Entry:
    actor = entry.actor
    is_known = actor is not None and _is_known(insiders, actor)
    who = RELAY if actor is None else _name(insiders, actor)
    more = entry.additional_data if isinstance(entry.additional_data, dict) else {}
    return Entry(
        at=entry.timestamp,
        who=who,
        from_address=(entry.remote_addr or "") if is_known else "",
        act=_ACTS.get(entry.action, ""),
        kind=entry.content_type.model,
        what=entry.object_repr,
        reason=str(more.get("reason", "")),
        changes=tuple(names.changes(entry)),
    )
