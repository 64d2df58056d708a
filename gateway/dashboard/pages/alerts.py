"""What may be spent beyond the plan's fee, and who is told when limits come near: two forms of one
page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.catalogue.choices import MAX_SPEND_CAP
from billing.catalogue.terms import timeline_of
from gateway.account import meter, plans, spending
from gateway.account.errors import BadValue
from gateway.account.spending import Spending
from gateway.dashboard.access import PageRequest, page, who_may
from gateway.dashboard.alert_forms import AlertsForm
from gateway.dashboard.figures import whole
from gateway.dashboard.forms import add_error
from gateway.dashboard.price_words import price
from gateway.dashboard.tables import Column, Table
from tenants.people.roles import May, may


class SpendingForm(forms.Form):
    """Whether more than the included is admitted, and the most it may cost."""

    overage = forms.BooleanField(
        label=gettext_lazy("Let usage go on beyond what is included, and charge it"),
        required=False,
        help_text=gettext_lazy("Off: it is refused instead, from the next full hour on."),
    )
    is_capped = forms.BooleanField(
        label=gettext_lazy("Cap what that may cost in a period"), required=False
    )
    spend_cap = forms.DecimalField(
        label=gettext_lazy("The most it may cost, USD"),
        required=False,
        min_value=0,
        max_value=MAX_SPEND_CAP,
        decimal_places=2,
        widget=forms.NumberInput(attrs={"step": "0.01", "inputmode": "decimal"}),
        help_text=gettext_lazy(
            "Beside the fees, before discounts and tax. When it is reached, more is refused."
        ),
    )

    def clean(self) -> dict[str, Any]:
        """A cap has an amount."""
        found: dict[str, Any] = super().clean() or {}
        if (
            found.get("is_capped")
            and found.get("spend_cap") is None
            and "spend_cap" not in self.errors
        ):
            self.add_error("spend_cap", _("Say how much."))
        return found

    @property
    def cap(self) -> Decimal | None:
        """Once it is valid; None is without bound."""
        return self.cleaned_data["spend_cap"] if self.cleaned_data["is_capped"] else None


@page(may=May.SEE_USAGE)
def show(request: PageRequest) -> HttpResponse:
    """What was chosen, what it may cost, and what was told."""
    return _render(request, spending.spending(request.tenant))


@page(may=May.CHANGE_PLAN, methods=("POST",))
def save(request: PageRequest) -> HttpResponse:
    """Choose anew."""
    form = SpendingForm(request.POST)
    if form.is_valid():
        try:
            spending.choose(
                request.tenant,
                overage=form.cleaned_data["overage"],
                spend_cap=form.cap,
                is_cap_given=True,
            )
        except BadValue as error:
            form.add_error("spend_cap", str(error).partition(": ")[2] or str(error))
        else:
            messages.success(request, _("Saved. It holds from now on."))
            return redirect("dashboard:alerts", slug=request.tenant.slug)
    return _render(request, spending.spending(request.tenant), form=form)


@page(may=May.CHANGE_PLAN, methods=("POST",))
def choose(request: PageRequest) -> HttpResponse:
    """Choose anew at which percentages the tenant is told, and what is mailed to whom."""
    told = AlertsForm(request.POST)
    if told.is_valid():
        try:
            spending.choose_alerts(request.tenant, **told.cleaned_data)
        except BadValue as error:
            add_error(told, error)
        else:
            messages.success(request, _("Saved. It holds from now on."))
            return redirect("dashboard:alerts", slug=request.tenant.slug)
    return _render(request, spending.spending(request.tenant), told=told)


def _form(found: Spending) -> SpendingForm:
    return SpendingForm(
        initial={
            "overage": found.overage,
            "is_capped": found.spend_cap is not None,
            "spend_cap": found.spend_cap,
        }
    )


def _render(
    request: PageRequest,
    found: Spending,
    *,
    form: SpendingForm | None = None,
    told: AlertsForm | None = None,
) -> HttpResponse:
    """The page, with the form that was not accepted, if one was not."""
    timeline = timeline_of(request.tenant)
    current = plans.current(request.tenant, timeline=timeline)
    context = {
        "spending": found,
        "form": form or _form(found),
        "told": told or AlertsForm.of(found),
        "prices": current.prices,
        "meters": _meters(current),
        "cost": meter.cost_of(request.tenant, timeline=timeline),
        "warnings": _warnings(found),
        "may_change": may(request.membership.role, May.CHANGE_PLAN),
        "roles": who_may(May.CHANGE_PLAN),
    }
    return render(request, "dashboard/alerts.html", context, status=422 if form or told else 200)


def _meters(current: plans.Current) -> Table:
    meters = current.prices.meters if current.prices is not None else ()
    rows = [
        (
            one.name,
            whole(one.included),
            price(one) if one.overage else _("refused"),
        )
        for one in meters
    ]
    columns = (
        Column(_("Meter")),
        Column(_("Included"), is_number=True),
        Column(_("Beyond it"), is_number=True),
    )
    return Table(_("What is beyond the included"), columns, rows, _("The plan has no meters."))


def _warnings(found: Spending) -> Table:
    rows = [
        (
            f"{one.at:%Y-%m-%d %H:%M}",
            one.code,
            f"{one.threshold} %",
            whole(one.used),
            whole(one.limit),
        )
        for one in found.warnings
    ]
    columns = (
        Column(_("Told (UTC)")),
        Column(_("Allowance")),
        Column(_("Reached"), is_number=True),
        Column(_("Used"), is_number=True),
        Column(_("Of"), is_number=True),
    )
    return Table(_("Warnings"), columns, rows, _("No warning was given yet."))
