"""Claims what is due, sends it, writes down what came of it.

At least once: a claim is a compare-and-set on `next_attempt_at`, so that of any number of workers
one sends; should it die before it has written the outcome, the claim ends by itself and another
sends again, with the same delivery id.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Max, Min, Q
from django.utils import timezone

from tenants import metrics
from tenants.models import Delivery, DeliveryAttempt, WebhookEndpoint
from tenants.models.notices import SHORT_CHARS
from tenants.notices import schedule, services
from tenants.notices.kinds import PING

#: How long a claim keeps others away; far beyond any deadline of one sending.
CLAIM = timedelta(seconds=60)
#: Claimed by one turn, and sent at once; of one endpoint; of one that fails.
MAX_AT_ONCE, MAX_PER_ENDPOINT, MAX_PER_FAILING = 20, 4, 1
#: An endpoint that has done nothing but fail for so long is disabled.
FAILING_AT_MOST = timedelta(days=5)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make attempt number `attempt`, for as long as `until`."""

    delivery_id: int
    attempt: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to. `error` is one line, empty after a success; `is_final`: trying again
    cannot help."""

    error: str = ""
    http_status: int | None = None
    excerpt: str = ""
    latency_ms: int | None = None
    is_final: bool = False

    @property
    def is_success(self) -> bool:
        """Whether it arrived."""
        return not self.error


#: A delivery as it was seen: id, attempts so far, when it was due.
Due = tuple[int, int, datetime | None]


def due_webhooks(now: datetime) -> list[Due]:
    """What endpoints are due, those first that have waited longest, and of each only a few: one
    with a thousand waiting keeps nobody else from theirs."""
    pending = Delivery.objects.filter(
        Q(endpoint__retry_at=None) | Q(endpoint__retry_at__lte=now),
        endpoint__isnull=False,
        state=Delivery.State.PENDING,
        next_attempt_at__lte=now,
    )
    waiting = (
        pending.order_by()
        .values_list("endpoint_id", "endpoint__failures")
        .annotate(oldest=Min("next_attempt_at"))
        .order_by("oldest")[:MAX_AT_ONCE]
    )
    due: list[Due] = []
    for endpoint_id, failures, _ in waiting:
        most = MAX_PER_FAILING if failures else MAX_PER_ENDPOINT
        of_it = pending.filter(endpoint_id=endpoint_id).order_by("next_attempt_at", "pk")
        due += of_it.values_list("pk", "attempts", "next_attempt_at")[:most]
    return due[:MAX_AT_ONCE]


def due_mail(now: datetime) -> list[Due]:
    """The mail that is due, the longest waiting first."""
    pending = Delivery.objects.filter(
        endpoint=None, state=Delivery.State.PENDING, next_attempt_at__lte=now
    ).order_by("next_attempt_at", "pk")
    return list(pending.values_list("pk", "attempts", "next_attempt_at")[:MAX_AT_ONCE])


def claim(seen: Due, *, now: datetime) -> Claim | None:
    """Take the delivery as it was seen; None when somebody else has."""
    delivery_id, attempts, due_at = seen
    until = now + CLAIM
    # Not SELECT … SKIP LOCKED: SQLite has none, and a lock would be held while we send.
    taken = Delivery.objects.filter(
        pk=delivery_id,
        state=Delivery.State.PENDING,
        attempts=attempts,
        next_attempt_at=due_at,
    ).update(attempts=F("attempts") + 1, next_attempt_at=until)
    return Claim(delivery_id, attempts + 1, until) if taken else None


@transaction.atomic
def record(claimed: Claim, outcome: Outcome, *, now: datetime | None = None) -> Delivery:
    """Write down an attempt, and what follows from it: delivered, tried again, given up, or the
    endpoint disabled.

    A worker that comes back after its claim has ended logs what it did; it undoes nothing that the
    next has written, but what arrived has arrived.
    """
    at = now or timezone.now()
    endpoint = _locked_endpoint(claimed.delivery_id)  # before the delivery, as everywhere
    delivery = Delivery.objects.select_for_update().get(pk=claimed.delivery_id)
    _log(delivery, outcome, at)
    is_ours = (
        delivery.state == Delivery.State.PENDING
        and delivery.attempts == claimed.attempt
        and delivery.next_attempt_at == claimed.until
    )
    if outcome.is_success:
        delivery.state, delivery.next_attempt_at = Delivery.State.DELIVERED, None
        delivery.delivered_at = delivery.delivered_at or at
    elif is_ours:
        _plan_next(delivery, outcome, at)
    delivery.last_attempt_at, delivery.last_status = at, outcome.http_status
    delivery.last_error, delivery.last_latency_ms = outcome.error[:SHORT_CHARS], outcome.latency_ms
    delivery.save()
    if endpoint is not None:
        _note_health(endpoint, outcome, at)
    channel = "webhook" if endpoint else "mail"
    metrics.delivery_attempts.labels(channel, "ok" if outcome.is_success else "failed").inc()
    return delivery


def abandon(claimed: Claim) -> None:
    """Give up a claimed delivery whose endpoint is not told anything any more."""
    Delivery.objects.filter(
        pk=claimed.delivery_id, state=Delivery.State.PENDING, attempts=claimed.attempt
    ).update(state=Delivery.State.ABANDONED, next_attempt_at=None)


def _locked_endpoint(delivery_id: int) -> WebhookEndpoint | None:
    # Two reads: a lock over a join takes both rows, in the order the database likes.
    found = Delivery.objects.values_list("endpoint_id", flat=True).get(pk=delivery_id)
    return WebhookEndpoint.objects.select_for_update().filter(pk=found).first() if found else None


def _log(delivery: Delivery, outcome: Outcome, at: datetime) -> None:
    last = DeliveryAttempt.objects.filter(delivery=delivery).aggregate(last=Max("number"))["last"]
    DeliveryAttempt(
        tenant_id=delivery.tenant_id,
        delivery=delivery,
        # The log's own count: a replay begins its attempts anew, and the oldest rows are forgotten.
        number=(last or 0) + 1,
        ended_at=at,
        is_success=outcome.is_success,
        http_status=outcome.http_status,
        error=outcome.error[:SHORT_CHARS],
        excerpt=outcome.excerpt[:SHORT_CHARS],
        latency_ms=outcome.latency_ms,
    ).save()


def _plan_next(delivery: Delivery, outcome: Outcome, at: datetime) -> None:
    # Somebody who pings is looking now; a ping in four hours is noise.
    most = 1 if delivery.notice.kind == PING else schedule.MAX_ATTEMPTS
    pause = schedule.next_pause(delivery.attempts, luck=random.random(), most=most)  # noqa: S311
    if outcome.is_final or pause is None:
        delivery.state, delivery.next_attempt_at = Delivery.State.FAILED, None
    else:
        delivery.next_attempt_at = at + pause


def _note_health(endpoint: WebhookEndpoint, outcome: Outcome, at: datetime) -> None:
    if outcome.is_success:
        if not endpoint.failures:
            return
        endpoint.failures, endpoint.failing_since, endpoint.retry_at = 0, None, None
    else:
        endpoint.failures += 1
        endpoint.failing_since = endpoint.failing_since or at
        endpoint.retry_at = at + schedule.quiet(endpoint.failures, luck=random.random())  # noqa: S311
    endpoint.save(update_fields=["failures", "failing_since", "retry_at"])
    if endpoint.failing_since is not None and at - endpoint.failing_since >= FAILING_AT_MOST:
        reason = f"no delivery succeeded for {FAILING_AT_MOST.days} days; last: {outcome.error}"
        services.disable_endpoint(endpoint, reason=reason, now=at)
