"""The token that a page opens the relay's sockets with."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from django.utils import timezone

from gateway.dashboard.access import PageRequest, page
from tenants.dashboard_tokens import issue_token
from tenants.people.roles import May


@page(may=May.SEE_USAGE, methods=("POST",))
def issue(request: PageRequest) -> HttpResponse:
    """A token, how many seconds it opens anything, and the socket's address without it."""
    issued = issue_token(
        by=request.membership,
        session_key=request.session.session_key or "",
        origin=f"{request.scheme}://{request.get_host()}",
    )
    scheme = "wss" if request.is_secure() else "ws"
    return JsonResponse(
        {
            "token": issued.raw,
            "expires_in": int((issued.expires_at - timezone.now()).total_seconds()),
            "ws": f"{scheme}://{request.get_host()}/ws",
        }
    )
