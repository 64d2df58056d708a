"""Webhooks: kept first, then processed, each once.

A webhook is a doorbell. What it is about is asked of the provider, and the answer is what counts:
so it does not matter in which order they come, how late, or how often.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.models import ChargeAttempt, ProviderCustomer, ProviderEvent
from billing.payments import attempts, customers, doorbell, returns
from billing.payments.provider import (
    OutcomeUnknownError,
    PaymentProvider,
    RefusedError,
    Subject,
)

log = structlog.get_logger(__name__)

_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=6)
_CLAIM = timedelta(minutes=5)


def receive(provider: PaymentProvider, body: bytes, headers: Mapping[str, str]) -> ProviderEvent:
    """Keep a webhook; the same again is the one that is kept. Raises WebhookRefusedError."""
    event = provider.parse_webhook(body, headers)
    at = timezone.now()
    known = ProviderEvent.objects.filter(provider=provider.name, event_id=event.id[:120])
    if (first := known.first()) is not None:
        return first
    is_nothing = event.subject is Subject.NOTHING
    try:
        with transaction.atomic():
            row = ProviderEvent.objects.create(
                provider=provider.name,
                event_id=event.id[:120],
                kind=event.kind[:80],
                subject=event.subject,
                reference=event.reference[:120],
                payload_sha256=hashlib.sha256(body).hexdigest(),
                happened_at=event.at,
                received_at=at,
                processed_at=at if is_nothing else None,
                next_at=None if is_nothing else at,
            )
            doorbell.process_on_commit()
            return row
    except IntegrityError:
        return known.get()


def process_due(
    provider: PaymentProvider, *, now: datetime | None = None, limit_s: float = 60.0
) -> int:
    """Process what was received and is due, and book refunds that wait. Answers how many events."""
    if not provider.is_automatic:
        return 0
    end_s, at, count = time.monotonic() + limit_s, now or timezone.now(), 0
    due = ProviderEvent.objects.filter(provider=provider.name, next_at__lte=at)
    for number in list(due.order_by("next_at").values_list("pk", flat=True)[:1_000]):
        if time.monotonic() > end_s:
            break
        try:
            count += process(provider, number, now=at)
        except Exception:  # one that nobody thought of must not take the others' turn
            log.exception("payment_event_broke", row=number)
    returns.send_again(provider)
    return count


def process(provider: PaymentProvider, number: int, *, now: datetime | None = None) -> bool:
    """Process one event. False: it is done, or somebody else's."""
    at = now or timezone.now()
    claimed = _claim(number, at)
    if claimed is None:
        return False
    try:
        if claimed.subject == Subject.CUSTOMER:
            trouble = _customer(provider, claimed.reference)
        else:
            trouble = _charge(provider, claimed.reference)
    except OutcomeUnknownError as error:
        pause = min(_FIRST_PAUSE * 2 ** min(claimed.attempts - 1, 10), _LONGEST_PAUSE)
        ProviderEvent.objects.filter(pk=number, processed_at=None).update(
            next_at=at + pause, error=str(error)[:200]
        )
        return True
    except RefusedError as error:
        trouble = f"asked about {claimed.reference}: {error}"
    ProviderEvent.objects.filter(pk=number).update(
        processed_at=at, next_at=None, error=trouble[:200]
    )
    if trouble:
        log.warning("payment_event_odd", row=number, kind=claimed.kind, why=trouble)
    return True


@transaction.atomic
def process_again(event: ProviderEvent) -> None:
    """An operator has it processed once more, now."""
    locked = ProviderEvent.objects.select_for_update().get(pk=event.pk)
    if locked.subject == Subject.NOTHING:
        return
    locked.processed_at, locked.next_at, locked.attempts = None, timezone.now(), 0
    locked.save(update_fields=["processed_at", "next_at", "attempts"])
    doorbell.process_on_commit()


@transaction.atomic
def _claim(number: int, at: datetime) -> ProviderEvent | None:
    event = ProviderEvent.objects.select_for_update().get(pk=number)
    if event.processed_at is not None or event.next_at is None or event.next_at > at:
        return None
    event.attempts += 1
    event.next_at = at + _CLAIM
    event.save(update_fields=["attempts", "next_at"])
    return event


def _charge(provider: PaymentProvider, reference: str) -> str:
    """Learn all about a charge. Answers what an operator should see; empty: nothing."""
    charge = provider.look(reference)
    of_provider = ChargeAttempt.objects.filter(provider=provider.name)
    attempt = of_provider.filter(reference=reference).first()
    if attempt is None and charge.key:
        # Our request got no answer, and the webhook is here first.
        attempt = of_provider.filter(idempotency_key=charge.key).first()
    if attempt is None:
        return f"{reference} is no charge of ours: {charge.amount} {charge.currency}"
    learned = attempts.learn(attempt.pk, charge)
    if learned.failure_code == attempts.HELD:
        return f"{attempt}: {learned.failure}"[:200]
    rows = [returns.learn(learned, row) for row in provider.returns(reference)]
    return next((f"{row}: {row.error}" for row in rows if row.error), "")


def _customer(provider: PaymentProvider, reference: str) -> str:
    customer = ProviderCustomer.objects.filter(provider=provider.name, reference=reference).first()
    if customer is None:
        return f"{reference} is no customer of ours"
    customers.refresh_method(provider, customer)
    return ""
