"""Celery's doors into tenants. The promises are held by what they call."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from tenants.notices import doorbell, mail, services, webhooks


@shared_task(acks_late=True, ignore_result=True)
def send_webhooks() -> None:
    """A turn of sending; another one soon while there is more. Beat finds what a lost one left."""
    if webhooks.send_due():
        doorbell.ring_webhooks()


@shared_task(acks_late=True, ignore_result=True)
def send_mail() -> None:
    """The same of mail, apart, so that a slow mail server delays no webhook."""
    if mail.send_due():
        doorbell.ring_mail()


@shared_task(acks_late=True, ignore_result=True)
def forget_delivery_attempts() -> None:
    """Keep the log of attempts as long as RELAY_NOTICES_LOG_DAYS."""
    kept = timedelta(days=settings.RELAY_NOTICES_LOG_DAYS)
    services.forget_attempts(before=timezone.now() - kept)
