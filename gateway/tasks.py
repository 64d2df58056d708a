"""Celery's doors into what needs more than one app."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from gateway.operations import gap_credits


@shared_task(acks_late=True, ignore_result=True)
def credit_gaps() -> None:
    """Propose credits for the hours in which something was lost. Again changes nothing."""
    gap_credits.credit_gaps(timezone.now())
