"""Guard rails of a key on the exchange, and the switch that stops it at once."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from gateway.account import keys
from gateway.account.errors import AccountError
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.forms import add_error
from gateway.dashboard.key_forms import RailsForm
from gateway.dashboard.pages.keys import find, render_key
from tenants.people.roles import May


@page(may=May.MANAGE_KEYS, methods=("POST",))
def rails(request: PageRequest, key_id: int) -> HttpResponse:
    """Save what it may not do."""
    find(request, key_id)
    form = RailsForm(request.POST)
    if form.is_valid():
        try:
            keys.set_rails(
                request.tenant, key_id, by=keys.member(request.membership.role), **form.cleaned_data
            )
        except AccountError as error:
            add_error(form, error)
        else:
            messages.success(request, _("Guard rails saved; in force within a second."))
            return redirect("dashboard:key", slug=request.tenant.slug, key_id=key_id)
    return render_key(request, key_id, status=422, rails_form=form)


@page(may=May.MANAGE_KEYS, methods=("POST",))
def kill(request: PageRequest, key_id: int) -> HttpResponse:
    """`on=1` stops all that is sent to the exchange for a key and its rotations; `on=0` lets it
    pass again. By name and not by turns, so that twice is once."""
    shown = find(request, key_id)
    is_on = request.POST.get("on") == "1"
    keys.set_rails(request.tenant, key_id, by=keys.member(request.membership.role), is_killed=is_on)
    said = (
        _("Trading with %(name)s is stopped: nothing more is sent to the exchange.")
        if is_on
        else _("Trading with %(name)s goes on, within its other guard rails.")
    )
    messages.success(request, said % {"name": shown.key.name})
    if request.POST.get("back") == "list":
        return redirect("dashboard:keys", slug=request.tenant.slug)
    return redirect("dashboard:key", slug=request.tenant.slug, key_id=key_id)
