"""`/app/`: to the tenant that was looked at last; to its first steps while it has no key."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from gateway.account.keys import key_page
from gateway.dashboard.access import LAST_TENANT, signed_in
from tenants.people import selectors
from tenants.people.roles import May, may


@signed_in
def home(request: HttpRequest) -> HttpResponse:
    """The last tenant of this session while the visitor belongs to it, else the first by name."""
    belongs = list(selectors.memberships_of(request.user))  # type: ignore[arg-type]
    slugs = [row.tenant.slug for row in belongs]
    if not slugs:
        return render(request, "dashboard/nowhere.html")
    last = request.session.get(LAST_TENANT)
    slug = last if last in slugs else slugs[0]
    chosen = next(row for row in belongs if row.tenant.slug == slug)
    is_new = may(chosen.role, May.MANAGE_KEYS) and not key_page(chosen.tenant, limit=1).rows
    return redirect("dashboard:start" if is_new else "dashboard:overview", slug=slug)
