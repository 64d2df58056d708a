"""Pages for what went wrong before a view was asked."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that was open for too long, or since before signing in: nothing was changed."""
    return render(request, "dashboard/expired.html", {"reason": reason}, status=403)
