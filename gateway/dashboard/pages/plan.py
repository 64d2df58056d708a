"""Plan & billing: what the tenant is on, what it costs, and changing it as it was previewed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from billing.catalogue import confirming, services
from billing.invoicing.rated_rows import rows_of, segment_line
from billing.models import PlannedChange
from billing.rating.invoice import Rated
from billing.rating.prices import PlanPrices
from gateway.account import add_ons, money, plans
from gateway.account.errors import AccountError
from gateway.dashboard.access import PageRequest, page
from gateway.dashboard.forms import number
from gateway.dashboard.once import is_first, new_ticket
from tenants.models import Plan
from tenants.people.roles import May, may
from tenants.people.selectors import billing_identity


@page(may=May.SEE_USAGE)
def plan(request: PageRequest) -> HttpResponse:
    """What the tenant is on, what is used of it, and what else it can have."""
    tenant, role = request.tenant, request.membership.role
    current = plans.current(tenant)
    sees_money = may(role, May.SEE_INVOICES)
    offers = _offers(current.prices)
    held = add_ons.held(tenant)
    codes = {one.row.add_on.code for one in held if one.row.ended_at is None}
    sold = add_ons.offered() if current.prices is not None else []
    trial_ends_at = current.subscription.trial_ends_at if current.subscription else None
    context: dict[str, Any] = {
        "current": current,
        "trial_ends_at": trial_ends_at
        if trial_ends_at and trial_ends_at > timezone.now()
        else None,
        "allowances": plans.allowances(tenant),
        "running": plans.running(tenant) if sees_money else None,
        "held": held,
        "ticket": new_ticket(),
        "add_ons": [one for one in sold if one.code not in codes],
        "monthly": [one for one in offers if one.unit != "year"],
        "yearly": [one for one in offers if one.unit == "year"],
        "is_yearly": request.GET.get("interval") == "year",
        "may_change": may(role, May.CHANGE_PLAN),
        "sees_money": sees_money,
        "may_pay": may(role, May.PAY_INVOICES),
        "may_edit_profile": may(role, May.EDIT_BILLING_PROFILE),
    }
    if sees_money:
        context |= {
            "balance": money.balance(tenant),
            "wallet": money.wallet(tenant),
            "method": money.payment_method(tenant),
            "identity": billing_identity(tenant),
        }
    return render(request, "dashboard/money/plan.html", context)


@page(may=May.CHANGE_PLAN)
def change(request: PageRequest, code: str) -> HttpResponse:
    """What changing to a plan would do to the invoice; nothing is written. `?when=period_end` for
    the end of the running period."""
    wanted = Plan.objects.filter(code=code, is_active=True).first()
    if wanted is None:
        raise Http404
    tenant = request.tenant
    is_later = request.GET.get("when") == "period_end"
    try:
        shown = confirming.show(tenant, wanted, at_period_end=is_later)
    except LookupError:
        raise Http404 from None
    preview = shown.preview
    identity = billing_identity(tenant)
    current = plans.current(tenant)
    context = {
        "wanted": preview.plan,
        "current": current,
        "is_later": is_later,
        "has_period": current.period is not None,
        "preview": preview,
        "token": shown.token,
        "bills": [
            _Bill(title, rated)
            for title, rated in (
                (_("Without the change"), preview.before),
                (_("With the change"), preview.after),
                (_("The period that the change begins"), preview.begun),
            )
            if rated is not None
        ],
        "tax": identity if identity.tax_percent else None,
        "less": _losses(current.prices, preview.plan),
    }
    return render(request, "dashboard/money/change.html", context)


@page(may=May.CHANGE_PLAN, methods=("POST",))
def confirm(request: PageRequest, code: str) -> HttpResponse:
    """Change the plan as it was shown; where anything moved since, nothing changes, and the new
    figures are shown. The same form sent twice changes it once, and says so."""
    slug = request.tenant.slug
    try:
        done = confirming.confirm(request.tenant, request.POST.get("token", ""))
    except confirming.MovedError as error:
        messages.warning(request, error.messages[0])
        again = redirect("dashboard:plan_change", slug=slug, code=code)
        if request.POST.get("when") == "period_end":
            again["Location"] += "?when=period_end"
        return again
    except confirming.DoneError as error:
        messages.info(request, error.messages[0])
        return redirect("dashboard:plan", slug=slug)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("dashboard:plan", slug=slug)
    if isinstance(done, PlannedChange):
        text = _("%(plan)s begins on %(at)s UTC.") % {
            "plan": done.plan,
            "at": f"{done.at:%Y-%m-%d %H:%M}",
        }
    else:
        text = _("You are on %(plan)s now.") % {"plan": done.plan}
    messages.success(request, text)
    return redirect("dashboard:plan", slug=slug)


@page(may=May.CHANGE_PLAN, methods=("POST",))
def keep(request: PageRequest) -> HttpResponse:
    """Forget a change, or an end, that was planned."""
    services.keep_plan(request.tenant)
    messages.success(request, _("The planned change is called off."))
    return redirect("dashboard:plan", slug=request.tenant.slug)


@page(may=May.CHANGE_PLAN, methods=("POST",))
def cancel(request: PageRequest) -> HttpResponse:
    """End the plan with its running period: it is paid until then, and works until then. One that
    has no period was arranged by hand, and ends so: else it would end at once."""
    period = plans.current(request.tenant).period
    if period is None:
        messages.error(request, _("This plan was arranged with you: nothing is billed by itself."))
        return redirect("dashboard:plan", slug=request.tenant.slug)
    try:
        services.cancel(request.tenant, at=period.end)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, _("Your plan ends with this period. You can keep it until then."))
    return redirect("dashboard:plan", slug=request.tenant.slug)


@page(may=May.CHANGE_PLAN, methods=("POST",))
def add_on(request: PageRequest) -> HttpResponse:
    """Add some of an add-on (`code`, `quantity`), or end one (`end`, its id). Each form adds once:
    what is added is charged."""
    try:
        if ended := request.POST.get("end"):
            row = add_ons.end(request.tenant, number(ended))
            text = _("%(name)s has ended.") % {"name": row.add_on}
        else:
            code = request.POST.get("code", "")
            if not is_first(request, f"add-on:{slugify(code)[:40]}"):
                return redirect("dashboard:plan", slug=request.tenant.slug)  # where it is listed
            row = add_ons.add(request.tenant, code, number(request.POST.get("quantity", "1")))
            text = _("%(name)s is added.") % {"name": row.add_on}
    except AccountError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, text)
    return redirect("dashboard:plan", slug=request.tenant.slug)


@dataclass(frozen=True, slots=True)
class _Bill:
    """An invoice that would be, for the template."""

    title: str
    rated: Rated

    @property
    def rows(self) -> Any:
        return rows_of(self.rated)

    @property
    def segments(self) -> list[tuple[str, str]]:
        return [segment_line(one) for one in self.rated.segments]


@dataclass(frozen=True, slots=True)
class _Offer:
    """A plan that can be had, and how it stands to the present one."""

    prices: PlanPrices
    is_current: bool

    @property
    def unit(self) -> str:
        return self.prices.interval.unit.value


def _offers(current: PlanPrices | None) -> list[_Offer]:
    code = "" if current is None else current.code
    return [_Offer(one, one.code == code) for one in plans.offered()]


def _losses(before: PlanPrices | None, after: PlanPrices) -> list[str]:
    """What the new plan has less of, for whoever changes down."""
    if before is None:
        return []
    names = {
        "connections": _("connections"),
        "subscriptions": _("subscriptions"),
        "coins": _("coins"),
        "users": _("users"),
        "requests_per_s": _("requests a second"),
        "retention_hours": _("hours of history"),
    }
    found = []
    for name, word in names.items():
        had, has = getattr(before.entitlements, name), getattr(after.entitlements, name)
        if has is not None and (had is None or has < had):
            found.append(_("%(word)s: %(has)s") % {"word": word, "has": f"{has:,}"})
    gone = [one for one in before.entitlements.products if one not in after.entitlements.products]
    return [*found, *(_("no %(product)s") % {"product": one} for one in gone)]
