"""A short word after a part of a page was changed; whole pages use Django's messages."""

from __future__ import annotations

from django.http import HttpResponse
from django_htmx.http import trigger_client_event


def toast(response: HttpResponse, text: str, level: str = "success") -> HttpResponse:
    """Let the page that receives `response` through htmx say `text`; `level` is success, info,
    warning or error."""
    return trigger_client_event(response, "toast", {"text": str(text), "level": level})
