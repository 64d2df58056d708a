"""Sends due webhooks: what the request says, and what its answer means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.utils import timezone

from tenants.models import Delivery, Notice, WebhookEndpoint
from tenants.notices import sending, signature
from tenants.notices.kinds import encode
from tenants.notices.sending import Claim, Outcome
from tenants.wire import outbound
from tenants.wire.targets import TargetPolicy, TargetRefused

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One claimed webhook, ready to be sent."""

    claim: Claim
    url: str
    body: bytes
    headers: dict[str, str]


def send_due() -> int:
    """One turn: claim some webhooks that are due and send them at once. Answers how many were
    claimed; takes about the deadline of one. Safe to run beside itself, and to kill anywhere."""
    claims = [
        claimed
        for seen in sending.due_webhooks(timezone.now())
        if (claimed := sending.claim(seen, now=timezone.now())) is not None
    ]
    requests = [request for claimed in claims if (request := _prepare(claimed)) is not None]
    outcomes = asyncio.run(_send_all(requests)) if requests else []
    for request, outcome in zip(requests, outcomes, strict=True):
        sending.record(request.claim, outcome)
    return len(claims)


def body_of(notice: Notice) -> bytes:
    """What is signed and sent: the same bytes at each attempt and to each endpoint."""
    return encode(
        {
            "id": str(notice.uid),
            "kind": notice.kind,
            "createdAt": notice.created_at.isoformat(timespec="milliseconds"),
            "tenant": notice.tenant.slug,
            "data": notice.payload,
        }
    )


def secrets_of(endpoint: WebhookEndpoint) -> list[signature.Secret]:
    """What signs for an endpoint now: its secret and, within the overlap, the one before.

    Empty when SECRET_KEY is another than when it was shown, and no fallback is the old one."""
    generations = [(endpoint.generation, endpoint.fingerprint)]
    if endpoint.previous_until is not None and endpoint.previous_until > timezone.now():
        generations.append((endpoint.generation - 1, endpoint.previous_fingerprint))
    keys = [str(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    found = [
        signature.find(keys, endpoint=endpoint.uid, generation=number, fingerprint=fingerprint)
        for number, fingerprint in generations
    ]
    return [secret for secret in found if secret is not None] if found[0] is not None else []


def _prepare(claimed: Claim) -> Request | None:
    delivery = Delivery.objects.select_related("notice__tenant", "endpoint").get(
        pk=claimed.delivery_id
    )
    endpoint = delivery.endpoint
    if endpoint is None or not endpoint.is_enabled:
        sending.abandon(claimed)
        return None
    secrets = secrets_of(endpoint)
    if not secrets:
        error = "not sent: SECRET_KEY changed since the secret was shown; rotate the secret"
        sending.record(claimed, Outcome(error))
        return None
    body = body_of(delivery.notice)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "hl-relay-webhooks/1",
        signature.DELIVERY_HEADER: str(delivery.uid),
        signature.HEADER: signature.header(secrets, body=body, at_s=int(time.time())),
    }
    return Request(claimed, endpoint.url, body, headers)


async def _send_all(requests: Sequence[Request]) -> list[Outcome]:
    policy = TargetPolicy(allow_private=settings.RELAY_WEBHOOKS_PRIVATE)
    return await asyncio.gather(*(_send(request, policy) for request in requests))


async def _send(request: Request, policy: TargetPolicy) -> Outcome:
    try:
        answer = await outbound.post(
            request.url, body=request.body, headers=request.headers, policy=policy
        )
    except TargetRefused as refused:
        return Outcome(f"not sent: {refused}")
    except outbound.NoAnswer as none:
        return Outcome(str(none))
    except Exception:  # one that nobody thought of must not take the others' turn
        log.exception("webhook_failed", delivery=request.headers[signature.DELIVERY_HEADER])
        return Outcome("not sent: a fault of the relay's own")
    return Outcome(
        error=_verdict(answer.status),
        http_status=answer.status,
        excerpt=answer.excerpt,
        latency_ms=answer.latency_ms,
    )


def _verdict(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"answered {status}; redirects are not followed"
    return f"answered {status}"
