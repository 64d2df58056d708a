"""Keys: listed, made, changed, rotated and revoked. A raw key is in one answer and nowhere else."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from gateway.account import keys
from gateway.account.breakdown import breakdown
from gateway.account.errors import AccountError, BadCursor, NotFound
from gateway.account.usage import last_days
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.addresses import addresses
from gateway.dashboard.charts import sparkline
from gateway.dashboard.forms import add_error
from gateway.dashboard.key_forms import KeyForm, RailsForm, RotateForm
from gateway.dashboard.once import is_first, new_ticket
from gateway.dashboard.snippets import snippets
from tenants import services
from tenants.models import KEY_RIGHTS
from tenants.people.roles import May, may
from tenants.services import IssuedKey

PER_PAGE = 50
DAYS = 14


@page(may=May.SEE_KEYS)
def listing(request: PageRequest) -> HttpResponse:
    """Those that open something, or with `?show=ended` the others."""
    ended = request.GET.get("show") == "ended"
    cursor = request.GET.get("cursor", "")
    try:
        found = keys.key_page(request.tenant, is_active=not ended, cursor=cursor, limit=PER_PAGE)
    except BadCursor:
        return redirect("dashboard:keys", slug=request.tenant.slug)
    used = breakdown(request.tenant, last_days(DAYS), by="key") if found.rows else None
    by_key = {line.name: line for line in used.series} if used else {}
    for shown in found.rows:
        line = by_key.get(str(shown.key.pk))
        label = _("%(total)s messages in %(days)s days") % {
            "total": f"{line.total if line else 0:,}",
            "days": DAYS,
        }
        shown.key.spark = sparkline(line.values if line else (0, 0), label)  # type: ignore[attr-defined]
    older = f"?show={'ended' if ended else ''}&cursor={found.next_cursor}"
    context = {
        "rows": found.rows,
        "ended": ended,
        "had_some": not found.rows and _has_ended_keys(request),
        "older": older if found.next_cursor else "",
        "may_manage": may_manage(request),
        "days": DAYS,
    }
    return render(request, "dashboard/keys/list.html", context)


def _has_ended_keys(request: PageRequest) -> bool:
    return bool(keys.key_page(request.tenant, is_active=False, limit=1).rows)


@page(may=May.MANAGE_KEYS, methods=("GET", "HEAD", "POST"))
def new(request: PageRequest) -> HttpResponse:
    """Its form, and once the key itself."""
    form = KeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        rights = form.rights
        try:
            # Tried before the ticket is used up: a mistake may be mended and sent again.
            issued = _once(
                request,
                lambda: keys.issue(
                    request.tenant, by=keys.member(request.membership.role), **rights
                ),
            )
        except AccountError as error:
            add_error(form, error)
        else:
            return _show_once(request, issued)
    context = {"form": form, "ticket": new_ticket()}
    return render(request, "dashboard/keys/new.html", context, status=422 if form.errors else 200)


@page(may=May.SEE_KEYS)
def detail(request: PageRequest, key_id: int) -> HttpResponse:
    """One key: what it is, and for who may change it the forms."""
    return render_key(request, key_id)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def edit(request: PageRequest, key_id: int) -> HttpResponse:
    """Save its rights."""
    shown = find(request, key_id)
    form = KeyForm(request.POST, key=shown.key)
    if form.is_valid():
        rights = {name: value for name, value in form.rights.items() if name in KEY_RIGHTS}
        opened_as = form.cleaned_data["opened_as"]
        if opened_as and services.is_changed_since(opened_as, shown.key):
            form.add_error(None, services.CHANGED)
        else:
            try:
                keys.update(
                    request.tenant, key_id, by=keys.member(request.membership.role), **rights
                )
            except AccountError as error:
                add_error(form, error)
            else:
                messages.success(request, _("Saved; in force everywhere within seconds."))
                return redirect("dashboard:key", slug=request.tenant.slug, key_id=key_id)
    return render_key(request, key_id, status=422, form=form)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def rotate(request: PageRequest, key_id: int) -> HttpResponse:
    """A successor, shown once."""
    shown = find(request, key_id)
    form = RotateForm(request.POST)
    if form.is_valid():
        overlap = form.cleaned_data["overlap"]
        try:
            issued = _once(
                request,
                lambda: keys.rotate(
                    request.tenant, key_id, by=keys.member(request.membership.role), overlap=overlap
                ),
            )
        except AccountError as error:
            messages.error(request, str(error))
        else:
            return _show_once(request, issued, old=shown.key if issued else None)
    return redirect("dashboard:key", slug=request.tenant.slug, key_id=key_id)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def revoke(request: PageRequest, key_id: int) -> HttpResponse:
    """The end of a key."""
    shown = find(request, key_id)
    keys.revoke(request.tenant, key_id)
    messages.success(
        request,
        _("%(name)s is revoked: what it held open closes now.") % {"name": shown.key.name},
    )
    return redirect("dashboard:keys", slug=request.tenant.slug)


def may_manage(request: PageRequest) -> bool:
    """Whether the member may change keys."""
    return may(request.membership.role, May.MANAGE_KEYS)


def find(request: PageRequest, key_id: int) -> keys.ShownKey:
    """A key of this tenant, or 404."""
    try:
        return keys.key(request.tenant, key_id)
    except NotFound:
        raise Http404 from None


def render_key(
    request: PageRequest, key_id: int, *, status: int = 200, **forms: Any
) -> HttpResponse:
    """The page of a key; `forms` are those with something to say."""
    shown = find(request, key_id)
    context = {
        "shown": shown,
        "key": shown.key,
        "may_manage": may_manage(request) and shown.state in ("active", "rotated"),
        "form": forms.get("form") or KeyForm(key=shown.key),
        "rotate_form": RotateForm(),
        "rails_form": forms.get("rails_form") or RailsForm(rails=shown.rails),
        "ticket": new_ticket(),
    }
    return render(request, "dashboard/keys/detail.html", context, status=status)


def _once(request: PageRequest, make: Any) -> IssuedKey | None:
    """What `make` makes, or None where this form has been carried out before."""
    return make() if is_first(request, "key") else None


def _show_once(request: PageRequest, issued: IssuedKey | None, old: Any = None) -> HttpResponse:
    if issued is None:
        messages.info(
            request, _("That key is made already: it was shown once, and is in the list.")
        )
        return redirect("dashboard:keys", slug=request.tenant.slug)
    at = addresses(request)
    context = {"key": issued.key, "raw": issued.raw, "snippets": snippets(at, issued.raw)}
    return render(request, "dashboard/keys/issued.html", context | {"old": old})
