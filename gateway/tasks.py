"""Celery's doors into what needs more than one app."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from gateway.operations import gap_credits, sampling
from gateway.requests import services


@shared_task(acks_late=True, ignore_result=True)
def credit_gaps() -> None:
    """Propose credits for the hours in which something was lost. Again changes nothing."""
    gap_credits.credit_gaps(timezone.now())


@shared_task(acks_late=True, ignore_result=True)
def forget_requests() -> None:
    """Keep records of failed requests for RELAY_KEEP_REQUESTS_DAYS, and RELAY_KEEP_REQUESTS at
    most."""
    kept = timedelta(days=settings.RELAY_KEEP_REQUESTS_DAYS)
    services.forget(before=timezone.now() - kept, keep=settings.RELAY_KEEP_REQUESTS)


@shared_task(acks_late=True, ignore_result=True)
def sample_freshness() -> None:
    """Keep how fresh feeds and upstreams are. Twice in a minute is once."""
    sampling.sample(timezone.now())


@shared_task(acks_late=True, ignore_result=True)
def forget_freshness() -> None:
    """Delete what is older than its span is kept."""
    sampling.forget(timezone.now())
