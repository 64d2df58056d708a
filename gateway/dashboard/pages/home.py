"""`/app/`: to the tenant that was looked at last."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from gateway.dashboard.access import LAST_TENANT, signed_in
from tenants.people import selectors


@signed_in
def home(request: HttpRequest) -> HttpResponse:
    """The last tenant of this session while the visitor belongs to it, else the first by name."""
    slugs = [row.tenant.slug for row in selectors.memberships_of(request.user)]  # type: ignore[arg-type]
    if not slugs:
        return render(request, "dashboard/nowhere.html")
    last = request.session.get(LAST_TENANT)
    return redirect("dashboard:overview", slug=last if last in slugs else slugs[0])
