"""The end of an operator's look at a customer's pages; it begins in the admin."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from tenants.people import looking


@never_cache
@require_POST
def end(request: HttpRequest) -> HttpResponse:
    """Look no more; back to the tenant in the admin."""
    began = request.session.pop(looking.SESSION, None)
    view = looking.end_view(began, request.user) if isinstance(request.user, User) else None
    if view is None:
        return redirect("dashboard:home")
    return redirect("admin:tenants_tenant_change", view.tenant_id)
