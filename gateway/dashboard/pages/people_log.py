"""A person's own log-ins, and the audit log of the account."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway.account import audit as account
from gateway.account.errors import BadCursor, BadValue
from gateway.account.profile import members
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.audit_words import field_word, value_word
from gateway.dashboard.forms import number
from tenants.people import sessions as log
from tenants.people.roles import May

ROWS = 40
KINDS = {
    "tenant": gettext_lazy("Account"),
    "membership": gettext_lazy("Member"),
    "invitation": gettext_lazy("Invitation"),
    "apikey": gettext_lazy("Key"),
    "exchangerails": gettext_lazy("Guard rails"),
    "plansubscription": gettext_lazy("Plan"),
    "billingprofile": gettext_lazy("Billing profile"),
    "webhookendpoint": gettext_lazy("Webhook"),
    "quotaoverride": gettext_lazy("Limits"),
    "alertchoice": gettext_lazy("Alerts"),
}
ACTS = {
    "created": gettext_lazy("created"),
    "changed": gettext_lazy("changed"),
    "removed": gettext_lazy("removed"),
    "looked at": gettext_lazy("looked at"),
}
NAMES = {account.SUPPORT: gettext_lazy("Support"), account.RELAY: gettext_lazy("The relay")}


@page(may=May.SEE_PEOPLE)
def sessions(request: PageRequest) -> HttpResponse:
    """Where the visitor is signed in."""
    key = request.session.session_key or ""
    return render(
        request, "dashboard/people/sessions.html", {"rows": log.log_ins(request.user, key)}
    )


@page(may=May.SEE_PEOPLE, methods=("POST",), when_closed=True)
def end_session(request: PageRequest) -> HttpResponse:
    """End one of the visitor's log-ins (`session`, its id), or all but this one (`others`)."""
    key = request.session.session_key or ""
    if "others" in request.POST:
        ended = log.end_others(request.user, key)
        messages.success(request, _("%(n)s other log-ins ended.") % {"n": ended})
        return redirect("dashboard:sessions", slug=request.tenant.slug)
    if not log.end_log_in(request.user, number(request.POST.get("session", ""))):
        raise Http404
    messages.success(request, _("That log-in has ended."))
    return redirect("dashboard:sessions", slug=request.tenant.slug)


@page(may=May.MANAGE_PEOPLE)
def audit(request: PageRequest) -> HttpResponse:
    """Who changed what, by actor and kind."""
    actor, kind = request.GET.get("actor", ""), request.GET.get("kind", "")
    after = request.GET.get("after", "")
    try:
        found = account.entries(request.tenant, actor=actor, kind=kind, cursor=after, limit=ROWS)
    except (BadCursor, BadValue):
        return redirect("dashboard:audit", slug=request.tenant.slug)
    kept = {name: value for name, value in (("actor", actor), ("kind", kind)) if value}
    older = ""
    if found.next_cursor:
        older = f"{request.path}?{urlencode(kept | {'after': found.next_cursor})}"
    context = {
        "rows": [
            {
                "entry": row,
                "who": NAMES.get(row.who, row.who),
                "act": ACTS.get(row.act, row.act),
                "kind": KINDS.get(row.kind, row.kind),
                "changes": [
                    (field_word(name), value_word(name, before), value_word(name, after))
                    for name, before, after in row.changes
                ],
            }
            for row in found.rows
        ],
        "older": older,
        "first": f"{request.path}?{urlencode(kept)}" if after else "",
        "actors": [
            *((str(row.user_id), row.user.email) for row in members(request.tenant)),
            *NAMES.items(),
        ],
        "kinds": KINDS.items(),
        "actor": actor,
        "kind": kind,
    }
    return render(request, "dashboard/people/audit.html", context)
