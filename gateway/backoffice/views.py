"""Operators' pages that are no list of rows: the gross margin, and a mail to try the settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from gateway.backoffice.mail_test import MailFailed, send_test_mail
from gateway.backoffice.margin import Row, margins

#: Tenants on the page of margins: those that bring least, or those that are searched for.
ROWS_SHOWN = 100


@require_safe
def margin(request: HttpRequest) -> HttpResponse:
    """Revenue less cost by tenant and by plan, of last month and of this one so far."""
    if not request.user.has_perm("backoffice.view_costrate"):
        raise PermissionDenied
    found = margins(timezone.now())
    query = request.GET.get("q", "").strip()[:100]
    wanted = [row for row in found.tenants if query.casefold() in row.name.casefold()]
    context = {
        "title": "Gross margin",
        "query": query,
        "months": [f"{month:%B %Y}" for month in found.months],
        "has_rates": any(found.rates),
        "tenants": [_shown(row) for row in wanted[:ROWS_SHOWN]],
        "found": len(wanted),
        "plans": [_shown(row) for row in found.plans],
        "total": _shown(found.total),
        "fixed": [f"{amount:,.2f}" for amount in found.fixed],
        "after_fixed": [
            f"{amount - fixed:,.2f}"
            for amount, fixed in zip(found.total.margin, found.fixed, strict=True)
        ],
    }
    return _page(request, "margin", context)


def _shown(row: Row) -> dict[str, Any]:
    cells = zip(row.revenue, row.cost, row.margin, row.percent, strict=True)
    return {
        "name": row.name,
        "plan": row.plan,
        "tenant_id": row.tenant_id,
        "months": [
            {
                "revenue": f"{revenue:,.2f}",
                "cost": f"{cost:,.2f}",
                "margin": f"{margin:,.2f}",
                "percent": "" if percent is None else f"{percent:,.0f} %",
                "is_loss": margin < 0,
            }
            for revenue, cost, margin, percent in cells
        ],
    }


@require_http_methods(["GET", "HEAD", "POST"])
def test_mail(request: HttpRequest) -> HttpResponse:
    """Ask, and send one mail to the operator's own address."""
    if not request.user.has_perm("tenants.change_delivery"):
        raise PermissionDenied
    if request.method == "POST":
        try:
            address = send_test_mail(request.user)  # type: ignore[arg-type]  # staff is no stranger
        except MailFailed as error:
            messages.error(request, f"No mail was sent. {error}")
        else:
            messages.success(request, f"A mail is on its way to {address}: see whether it arrives.")
        return HttpResponseRedirect(reverse("cockpit:test_mail"))
    context = {
        "title": "Test the mail settings",
        "address": request.user.email,  # type: ignore[union-attr]
        "sender": settings.DEFAULT_FROM_EMAIL,
        "backend": settings.EMAIL_BACKEND.rpartition(".")[0].rpartition(".")[2],
    }
    return _page(request, "test_mail", context)


def _page(request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    request.current_app = admin.site.name
    everywhere = admin.site.each_context(request)
    return TemplateResponse(request, f"admin/backoffice/{name}.html", {**everywhere, **context})
