"""The first page of a tenant: its parts are fetched by themselves and renew themselves."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from gateway.account import overview as account
from gateway.account import status
from gateway.account.errors import Unavailable
from gateway.account.plans import current
from gateway.dashboard.access import PageRequest, page
from tenants.people.roles import May


@page(may=May.SEE_USAGE)
def overview(request: PageRequest) -> HttpResponse:
    """How it goes, at a glance."""
    plan = current(request.tenant)
    return render(request, "dashboard/overview/page.html", {"plan": plan.subscription})


@page(may=May.SEE_USAGE)
def now(request: PageRequest) -> HttpResponse:
    """What is open and comes now."""
    context: dict[str, Any] = {"errors": account.errors(request.tenant)}
    try:
        context["traffic"] = account.traffic(request.tenant)
    except Unavailable as error:
        context["unavailable"] = str(error)
    return render(request, "dashboard/overview/now.html", context)


@page(may=May.SEE_USAGE)
def month(request: PageRequest) -> HttpResponse:
    """What is used and what it costs."""
    context = {
        "money": account.money(request.tenant),
        "allowances": account.allowances(request.tenant),
    }
    return render(request, "dashboard/overview/month.html", context)


@page(may=May.SEE_USAGE)
def freshness(request: PageRequest) -> HttpResponse:
    """How fresh what the relay serves is."""
    return render(request, "dashboard/overview/freshness.html", {"status": status.status()})
