"""Where a provider tells us: `POST /webhooks/stripe/`. The signature is the door."""

from __future__ import annotations

import structlog
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.payments import events
from billing.payments.chosen import provider
from billing.payments.provider import WebhookRefusedError

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 256 * 1024


@csrf_exempt
@require_POST
def receive(request: HttpRequest, name: str) -> HttpResponse:
    """200 once it is kept, so that the provider sends again what we lost; nothing is done yet."""
    chosen = provider()
    if not chosen.is_automatic or chosen.name != name:
        return JsonResponse({"error": f"{name} is not set up here"}, status=404)
    try:
        length = int(request.headers.get("Content-Length") or 0)
    except ValueError:
        length = MAX_BODY_BYTES + 1
    # A body without a length is read up to Django's own limit.
    if length > MAX_BODY_BYTES or len(request.body) > MAX_BODY_BYTES:
        return JsonResponse({"error": f"at most {MAX_BODY_BYTES} bytes"}, status=413)
    try:
        events.receive(chosen, request.body, request.headers)
    except WebhookRefusedError as refused:
        log.warning("payment_webhook_refused", provider=name, why=str(refused))
        return JsonResponse({"error": str(refused)}, status=400)
    return JsonResponse({"received": True})
