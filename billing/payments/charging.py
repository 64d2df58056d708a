"""Makes the charges that are due, and finds out what became of those nobody answered for.

A request that gets no answer may have charged. So its key is looked for first, and the request made
again only with the same key, while the provider still knows it.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import structlog
from django.utils import timezone

from billing.models import ChargeAttempt
from billing.payments import attempts
from billing.payments.attempts import Claimed
from billing.payments.provider import (
    CLOSED,
    Charge,
    Outcome,
    OutcomeUnknownError,
    PaymentProvider,
    RefusedError,
)

log = structlog.get_logger(__name__)

#: Providers keep a key for a day; beyond, the same request might charge a second time.
KEY_LIFE = timedelta(hours=23)
#: After which a request that left no trace is believed to have been lost on its way.
LOST_AFTER = timedelta(hours=1)
#: Between two questions about the same attempt.
_PAUSES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30))


def run_due(
    provider: PaymentProvider, *, now: datetime | None = None, limit_s: float = 60.0
) -> int:
    """Begin what is to be charged, make and ask about what is due. Answers how many attempts. Safe
    to run beside itself, and to kill anywhere."""
    if not provider.is_automatic:
        return 0
    end_s = time.monotonic() + limit_s
    attempts.begin_due(provider.name)
    at = now or timezone.now()
    due = ChargeAttempt.objects.filter(provider=provider.name, is_open=True, next_at__lte=at)
    run = 0
    for number in list(due.order_by("next_at").values_list("pk", flat=True)[:1_000]):
        if time.monotonic() > end_s:
            break
        try:
            run += run_one(provider, number, now=at)
        except Exception:  # one that nobody thought of must not take the others' turn
            log.exception("charge_broke", attempt=number)
    return run


def run_one(provider: PaymentProvider, number: int, *, now: datetime | None = None) -> bool:
    """Make or ask about one attempt. False: it was not due."""
    at = now or timezone.now()
    claimed = attempts.claim(number, at)
    if claimed is None:
        return False
    attempt = claimed.attempt
    try:
        charge = _outcome(provider, claimed, at)
    except OutcomeUnknownError as error:
        pause = _PAUSES[min(attempt.attempts, len(_PAUSES)) - 1]
        attempts.ask_later(number, at + pause, str(error))
        log.warning("charge_unknown", attempt=number, why=str(error))
        return True
    except RefusedError as error:
        if attempt.reference:  # a question was refused, not the charge
            attempts.ask_later(number, at + attempts.ASK_AGAIN, str(error))
            return True
        charge = Charge(Outcome.FAILED, code=error.code, reason=error.reason)
    if charge is None:
        attempts.give_up(number)
    else:
        attempts.learn(number, charge, now=at)
    return True


def _outcome(provider: PaymentProvider, claimed: Claimed, at: datetime) -> Charge | None:
    """What became of an attempt, made where it was not. None: it is not needed any more."""
    attempt = claimed.attempt
    if attempt.reference:
        return provider.look(attempt.reference)
    began = attempt.first_at or at
    if attempt.attempts > 1:
        found = provider.find(attempt.customer, attempt.idempotency_key, since=began)
        if found is not None:
            return found
        if at > began + KEY_LIFE:
            return Charge(Outcome.FAILED, code="not_made", reason="the provider did not answer")
        if claimed.balance < attempt.amount:
            if at < began + LOST_AFTER:
                raise OutcomeUnknownError("paid otherwise meanwhile; the request may be under way")
            return None
    if not _close_earlier(provider, attempt):
        raise OutcomeUnknownError("an earlier attempt may succeed, or did")
    return provider.charge(
        attempt.invoice,
        attempt.amount,
        attempt.idempotency_key,
        customer=attempt.customer,
        method=attempt.method,
    )


def _close_earlier(provider: PaymentProvider, attempt: ChargeAttempt) -> bool:
    """Whether no earlier charge of the invoice can still succeed: a customer may confirm one at the
    provider long after it failed here."""
    earlier = ChargeAttempt.objects.filter(
        invoice=attempt.invoice_id,
        number__lt=attempt.number,
        reference__isnull=False,
        provider=provider.name,
        payment=None,
    )
    for row in earlier:
        charge = provider.close(row.reference or "")
        if charge.outcome is Outcome.SUCCEEDED:
            attempts.learn(row.pk, charge)
        if charge.code != CLOSED:
            return False
    return True
