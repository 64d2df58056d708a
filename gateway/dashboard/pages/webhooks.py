"""Webhooks: where a tenant is told, and what became of each delivery."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from gateway.account import webhooks
from gateway.account.errors import AccountError, BadCursor, BadValue, NotFound
from gateway.account.paging import Page
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.once import is_first, new_ticket
from gateway.dashboard.webhook_forms import KIND_NAMES, STATES, EndpointForm, RotateForm
from gateway.dashboard.webhook_snippets import SNIPPETS
from tenants.models import Delivery, WebhookEndpoint
from tenants.notices.services import MAX_ENDPOINTS, ShownSecret
from tenants.people.roles import May, may

LOG_ROWS = 25


@page(may=May.SEE_KEYS)
def show(request: PageRequest) -> HttpResponse:
    """All endpoints, and a form for another."""
    return _list(request, EndpointForm())


@page(may=May.MANAGE_KEYS, methods=("POST",))
def add(request: PageRequest) -> HttpResponse:
    """Another endpoint; the answer shows its secret, this once."""
    form = EndpointForm(request.POST)
    if form.is_valid():
        # The answer is a page, and a page is loaded again: that adds no second endpoint.
        if not is_first(request, "webhook"):
            return redirect("dashboard:webhooks", slug=request.tenant.slug)
        try:
            shown = webhooks.add(request.tenant, **form.cleaned_data)
        except BadValue as error:
            _blame(form, error)
        else:
            return _secret(request, shown)
    return _list(request, form, status=422)


@page(may=May.SEE_KEYS)
def endpoint(request: PageRequest, uid: UUID) -> HttpResponse:
    """One endpoint: what it is told, its secret's rotation, and its log."""
    return _endpoint(request, _found(request, uid))


@page(may=May.MANAGE_KEYS, methods=("POST",))
def update(request: PageRequest, uid: UUID) -> HttpResponse:
    """Another URL, other events."""
    found, form = _found(request, uid), EndpointForm(request.POST)
    if form.is_valid():
        try:
            webhooks.update(request.tenant, uid, **form.cleaned_data)
        except BadValue as error:
            _blame(form, error)
        else:
            messages.success(request, _("Saved."))
            return _to(request, uid)
    return _endpoint(request, found, form=form, status=422)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def turn(request: PageRequest, uid: UUID) -> HttpResponse:
    """Pause it (`is_enabled` is empty) or let it go on."""
    is_enabled = bool(request.POST.get("is_enabled"))
    _found(request, uid)
    try:
        webhooks.update(request.tenant, uid, is_enabled=is_enabled)
    except BadValue as error:
        messages.error(request, str(error))
    else:
        done = _("It is told again.") if is_enabled else _("Paused: it is told nothing.")
        messages.success(request, done)
    return _to(request, uid)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def rotate(request: PageRequest, uid: UUID) -> HttpResponse:
    """A new secret; the answer shows it, this once."""
    found, form = _found(request, uid), RotateForm(request.POST)
    if not form.is_valid():
        return _endpoint(request, found, rotation=form, status=422)
    # Again, the secret that its receiver still has would end at once.
    if not is_first(request, "webhook-secret"):
        return _to(request, uid)
    return _secret(request, webhooks.rotate_secret(request.tenant, uid, overlap=form.overlap))


@page(may=May.MANAGE_KEYS, methods=("POST",))
def ping(request: PageRequest, uid: UUID) -> HttpResponse:
    """Send a ping now."""
    _found(request, uid)
    try:
        webhooks.ping(request.tenant, uid)
    except AccountError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("A ping is on its way: see the log."))
    return _to(request, uid)


@page(may=May.SEE_KEYS)
def log(request: PageRequest, uid: UUID) -> HttpResponse:
    """The part with the log, which renews itself while something is on its way."""
    return render(request, "dashboard/webhook_log.html", _log(request, _found(request, uid)))


@page(may=May.SEE_KEYS)
def delivery(request: PageRequest, uid: UUID) -> HttpResponse:
    """One delivery: what was sent, and each attempt."""
    try:
        found = webhooks.delivery(request.tenant, uid)
    except NotFound:
        raise Http404 from None
    notice = found.notice
    sent = {
        "id": str(notice.uid),
        "kind": notice.kind,
        "createdAt": notice.created_at.isoformat(timespec="milliseconds"),
        "tenant": request.tenant.slug,
        "data": notice.payload,
    }
    context = {
        "delivery": found,
        "attempts": found.log.all(),
        "body": json.dumps(sent, indent=2, sort_keys=True, ensure_ascii=False),
        "kind_name": KIND_NAMES.get(notice.kind, ""),
        "may_manage": may(request.membership.role, May.MANAGE_KEYS),
        "log_days": settings.RELAY_NOTICES_LOG_DAYS,
    }
    return render(request, "dashboard/webhook_delivery.html", context)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def replay(request: PageRequest, uid: UUID) -> HttpResponse:
    """Deliver again, under the same id."""
    try:
        webhooks.replay(request.tenant, uid)
    except NotFound:
        raise Http404 from None
    except AccountError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("It is delivered again, under the same id."))
    return redirect("dashboard:webhook-delivery", slug=request.tenant.slug, uid=uid)


def _found(request: PageRequest, uid: UUID) -> WebhookEndpoint:
    try:
        return webhooks.endpoint(request.tenant, uid)
    except NotFound:
        raise Http404 from None


def _to(request: PageRequest, uid: UUID) -> HttpResponse:
    return redirect("dashboard:webhook", slug=request.tenant.slug, uid=uid)


def _blame(form: EndpointForm, error: BadValue) -> None:
    """Put a refusal at its field, where it names one."""
    field, _colon, text = str(error).partition(": ")
    form.add_error(field if field in form.fields else "url", text or str(error))


def _list(request: PageRequest, form: EndpointForm, *, status: int = 200) -> HttpResponse:
    found = webhooks.endpoints(request.tenant)
    context = {
        "endpoints": found,
        "form": form,
        "ticket": new_ticket(),
        "limit": MAX_ENDPOINTS,
        "is_full": sum(one.is_enabled for one in found) >= MAX_ENDPOINTS,
        "may_manage": may(request.membership.role, May.MANAGE_KEYS),
    }
    return render(request, "dashboard/webhooks.html", context, status=status)


def _endpoint(
    request: PageRequest,
    found: WebhookEndpoint,
    *,
    form: EndpointForm | None = None,
    rotation: RotateForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "endpoint": found,
        "form": form or EndpointForm(initial={"url": found.url, "kinds": found.kinds}),
        "rotation": rotation or RotateForm(),
        "ticket": new_ticket(),
        "is_paused_by_owner": found.disabled_reason == webhooks.BY_OWNER,
        "may_manage": may(request.membership.role, May.MANAGE_KEYS),
        "snippets": SNIPPETS,
        **_log(request, found),
    }
    return render(request, "dashboard/webhook.html", context, status=status)


def _secret(request: PageRequest, shown: ShownSecret) -> HttpResponse:
    context = {"endpoint": shown.endpoint, "secret": shown.secret, "snippets": SNIPPETS}
    return render(request, "dashboard/webhook_secret.html", context)


def _log(request: PageRequest, found: WebhookEndpoint) -> dict[str, Any]:
    state = request.GET.get("state", "")
    state = state if state in Delivery.State.values else ""
    cursor = request.GET.get("cursor", "")
    try:
        rows = webhooks.delivery_page(
            request.tenant, endpoint_uid=found.uid, state=state, cursor=cursor, limit=LOG_ROWS
        )
    except BadCursor:
        cursor, rows = "", Page([])
    here = reverse("dashboard:webhook", kwargs={"slug": request.tenant.slug, "uid": found.uid})

    def link(**query: str) -> str:
        kept = {name: value for name, value in query.items() if value}
        return f"{here}?{urlencode(kept)}#log"

    return {
        "endpoint": found,
        "log": rows.rows,
        "log_url": reverse("dashboard:webhook-log", args=[request.tenant.slug, found.uid])
        + (f"?{urlencode({'state': state})}" if state else ""),
        "is_waiting": not cursor and any(row.state == "pending" for row in rows.rows),
        "states": [
            {"title": name, "url": link(state=value), "is_current": value == state}
            for value, name in STATES.items()
        ],
        "older": link(state=state, cursor=rows.next_cursor) if rows.next_cursor else "",
        "newer": link(state=state) if cursor else "",
    }
