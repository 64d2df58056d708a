"""From a new account to a live stream: a key, a program with it filled in, and the feed itself."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from gateway.account import keys
from gateway.account.errors import AccountError
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.addresses import addresses
from gateway.dashboard.once import is_first, new_ticket
from gateway.dashboard.snippets import YOUR_KEY, snippets
from tenants.people.roles import May

FIRST_KEY = "First key"


@page(may=May.MANAGE_KEYS, methods=("GET", "HEAD", "POST"))
def start(request: PageRequest) -> HttpResponse:
    """POST makes the first key; the page that answers it is the only one that has it."""
    if request.method != "POST":
        return render(request, "dashboard/start.html", _context(request))
    if not is_first(request, "key"):
        messages.info(
            request, _("That key is made already: it was shown once, and is in the list.")
        )
        return redirect("dashboard:keys", slug=request.tenant.slug)
    try:
        issued = keys.issue(request.tenant, by=keys.member(request.membership.role), name=FIRST_KEY)
    except AccountError as error:
        messages.error(request, str(error))
        return redirect("dashboard:start", slug=request.tenant.slug)
    return render(request, "dashboard/start.html", _context(request, raw=issued.raw))


def _context(request: PageRequest, raw: str = "") -> dict[str, Any]:
    at = addresses(request)
    return {
        "raw": raw,
        "has_keys": bool(raw) or has_keys(request),
        "ticket": new_ticket(),
        "at": at,
        "snippets": snippets(at, raw or YOUR_KEY),
    }


def has_keys(request: PageRequest) -> bool:
    """Whether the tenant has any key that opens something."""
    return bool(keys.key_page(request.tenant, is_active=True, limit=1).rows)
