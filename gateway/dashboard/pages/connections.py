"""Open sockets and streams, told anew every few seconds, and their end on request."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from gateway.account import connections as account
from gateway.account import plans
from gateway.account.connections import Connection
from gateway.account.errors import AccountError, NotFound, Unavailable
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.toasts import toast
from tenants.people.roles import May, may
from tenants.selectors import current_plan_subscription

#: Rows of the page; whoever has more asks the API.
MAX_SHOWN = 200
WEB_PREFIX = "hlr_web_"


@page(may=May.SEE_CONNECTIONS)
def connections(request: PageRequest) -> HttpResponse:
    """All of a tenant, or with `?key=` of one key."""
    return render(request, "dashboard/connections.html", _context(request))


@page(may=May.SEE_CONNECTIONS)
def part(request: PageRequest) -> HttpResponse:
    """The same without its frame, for the page to renew itself."""
    return render(request, "dashboard/connections_part.html", _context(request))


@page(may=May.SEE_CONNECTIONS)
def connection(request: PageRequest, connection_id: str) -> HttpResponse:
    """One, with everything it follows."""
    context: dict[str, Any] = {"may_end": may(request.membership.role, May.MANAGE_KEYS)}
    try:
        context["connection"] = account.connection(request.tenant, connection_id)
    except NotFound as gone:
        context["gone"] = str(gone)
        return render(request, "dashboard/connection.html", context, status=410)
    except Unavailable as away:
        context["away"] = str(away)
    return render(request, "dashboard/connection.html", context)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def disconnect(request: PageRequest, connection_id: str) -> HttpResponse:
    """Close it; the list as it is then, with a word."""
    try:
        account.disconnect(request.tenant, connection_id, by=f"user {request.user.pk}")
    except NotFound:
        text, level = _("It is closed already."), "info"
    except AccountError as error:
        text, level = str(error), "error"
    else:
        text, level = _("It is closed within a second."), "success"
    context = _context(request, ended=connection_id if level != "error" else "")
    return toast(render(request, "dashboard/connections_part.html", context), text, level)


def _context(request: PageRequest, *, ended: str = "") -> dict[str, Any]:
    key_id = request.GET.get("key", "")
    if key_id and not (key_id.isascii() and key_id.isdigit() and len(key_id) < 19):
        raise Http404
    context: dict[str, Any] = {
        "key_id": key_id,
        "may_end": may(request.membership.role, May.MANAGE_KEYS),
    }
    try:
        found = account.connections(request.tenant)
    except Unavailable as away:
        return context | {"away": str(away)}
    found = [one for one in found if one.id != ended]
    # What a member's own pages hold open has room of its own.
    counted = [one for one in found if not _is_of_dashboard(one)]
    limits = plans.limits_of(request.tenant, current_plan_subscription(request.tenant))
    most = limits.max_connections if limits is not None else None
    shown = [one for one in found if not key_id or one.key_id == int(key_id)]
    return context | {
        "rows": [(one, _is_of_dashboard(one)) for one in shown[:MAX_SHOWN]],
        "more": max(0, len(shown) - MAX_SHOWN),
        "counted": len(counted),
        "most": most,
        "is_full": most is not None and len(counted) >= most,
        "subscriptions": sum(one.subscription_count for one in counted),
        "most_subscriptions": limits.max_subscriptions if limits is not None else None,
        "waiting_bytes": sum(one.queued_bytes for one in found),
        "lost": sum(one.dropped for one in found),
    }


def _is_of_dashboard(one: Connection) -> bool:
    return one.key_prefix.startswith(WEB_PREFIX)
