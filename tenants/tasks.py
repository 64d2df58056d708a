"""What beat and other processes have done for tenants."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from tenants import services
from tenants.models import Tenant
from tenants.notices import doorbell, mail, webhooks
from tenants.notices import services as notices
from tenants.people import mails, selectors
from tenants.people import services as people
from tenants.people.roles import May

#: A mail server that is away is asked again for about an hour; `resend` is for anything longer.
_MAIL_RETRIES = {
    "autoretry_for": (OSError, SMTPException),
    "max_retries": 8,
    "retry_backoff": 15,
    "retry_backoff_max": 900,
}


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
    notices.forget_attempts(before=timezone.now() - kept)


@shared_task(acks_late=True, ignore_result=True, **_MAIL_RETRIES)
def send_invitation(invitation_id: int) -> None:
    """Send an invitation's mail, once it is due; the link's token lives in here and in the mail."""
    if (made := people.make_token(invitation_id)) is not None:
        invitation, token = made
        mails.send_invitation(invitation, token)
        people.note_sent(invitation)


@shared_task(acks_late=True, ignore_result=True, **_MAIL_RETRIES)
def announce_suspension(tenant_id: int) -> None:
    """Tell who may settle it that a tenant will be suspended, unless that was called off."""
    tenant = Tenant.objects.filter(pk=tenant_id).exclude(suspend_at=None).first()
    if tenant is not None:
        to = (*selectors.addresses_who_may(tenant, May.PAY_INVOICES), tenant.support_email)
        mails.announce_suspension(tenant, tuple(dict.fromkeys(filter(None, to))))


@shared_task(acks_late=True, ignore_result=True)
def suspend_due() -> None:
    """Suspend whose grace has ended."""
    services.suspend_due(now=timezone.now())
