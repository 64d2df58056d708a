"""Sends due mail: the letter of the notice's kind, in the language of who reads it."""

from __future__ import annotations

import smtplib
import time

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.utils import timezone, translation

from tenants import letters
from tenants.letters import Letter
from tenants.models import Delivery, Notice
from tenants.notices import reasons, recipients, sending, signature
from tenants.notices.sending import Claim, Outcome

log = structlog.get_logger(__name__)

#: One turn goes on so long: a worker has more to do than to wait for a slow mail server.
TURN_S = 20.0


def send_due() -> int:
    """One turn: claim and send mail that is due, one after the other. Answers how many were
    claimed. Safe to run beside itself, and to kill anywhere."""
    began_s, count = time.monotonic(), 0
    for seen in sending.due_mail(timezone.now()):
        if time.monotonic() - began_s > TURN_S:
            break
        if (claimed := sending.claim(seen, now=timezone.now())) is not None:
            count += 1
            sending.record(claimed, _outcome(claimed))
    return count


def write(notice: Notice, language: str) -> Letter:
    """The mail of a notice. What the notice holds is the same in every language, but for a reason
    that is the relay's own."""
    with translation.override(language):
        reason = reasons.translated(str(notice.payload.get("reason", "")))
    return letters.write(
        notice.kind, language=language, tenant=notice.tenant, data=notice.payload, reason=reason
    )


def _outcome(claimed: Claim) -> Outcome:
    try:
        return _send(claimed)
    except Exception:  # one that nobody thought of must not take the others' turn
        log.exception("mail_failed", delivery=claimed.delivery_id)
        return Outcome("not sent: a fault of the relay's own")


def _send(claimed: Claim) -> Outcome:
    delivery = Delivery.objects.select_related("notice__tenant").get(pk=claimed.delivery_id)
    address = delivery.address or ""
    letter = write(delivery.notice, recipients.language_of(address, delivery.notice.tenant))
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">") or "localhost"
    message = EmailMultiAlternatives(
        subject=letter.subject,
        body=letter.text,
        to=[address],
        # The same at each attempt, so that a mailbox can drop the second.
        headers={
            "Message-ID": f"<{delivery.uid}@{domain}>",
            signature.DELIVERY_HEADER: str(delivery.uid),
            "Auto-Submitted": "auto-generated",
        },
        connection=get_connection(),
    )
    message.attach_alternative(letter.html, "text/html")
    began_s = time.monotonic()
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as refused:
        codes = [code for code, _ in refused.recipients.values()]
        is_final = all(code >= 500 for code in codes)
        return Outcome(f"the mail server refused the address ({codes[0]})", is_final=is_final)
    except smtplib.SMTPResponseException as error:
        return Outcome(f"the mail server answered {error.smtp_code}")
    except (smtplib.SMTPException, OSError) as error:
        # Its name and not its text, which may quote what we logged in with.
        return Outcome(f"the mail server: {type(error).__name__}")
    return Outcome(latency_ms=round((time.monotonic() - began_s) * 1_000))
