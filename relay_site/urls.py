"""What Django serves: the operators' site, the landing page and what watches a process."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from relay_site import health, metrics


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    """How to connect, for somebody who opened the address in a browser."""
    ws_scheme = "wss" if request.is_secure() else "ws"
    base_url = f"{request.scheme}://{request.get_host()}"
    return render(
        request,
        "landing.html",
        {"base_url": base_url, "ws_url": f"{ws_scheme}://{request.get_host()}"},
    )


urlpatterns = [
    path("", landing, name="landing"),
    path("admin/", admin.site.urls),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics_view),
]
