"""Pages for what went wrong before a view was asked."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that was open for too long, or since before signing in: nothing was changed. It leads
    back to the page with the form, since most addresses that forms are sent to show nothing."""
    came_from = request.META.get("HTTP_REFERER", "")
    is_ours = url_has_allowed_host_and_scheme(
        came_from, {request.get_host()}, require_https=request.is_secure()
    )
    back = came_from if is_ours else reverse("dashboard:home")
    context = {"reason": reason, "back": back}
    return render(request, "dashboard/expired.html", context, status=403)
