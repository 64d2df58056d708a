"""The first page of a tenant."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render

from gateway.dashboard.access import PageRequest, page
from tenants.people.roles import May


@page(may=May.SEE_USAGE)
def overview(request: PageRequest) -> HttpResponse:
    """How it goes, at a glance."""
    return render(request, "dashboard/overview.html")
