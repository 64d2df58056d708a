"""Sends due mail: a plain text from the kind's template, and the same words as simple HTML."""

from __future__ import annotations

import smtplib
import time
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import render_to_string
from django.utils import timezone

from tenants.models import Delivery, Notice
from tenants.notices import sending, signature
from tenants.notices.sending import Claim, Outcome

log = structlog.get_logger(__name__)

#: One turn goes on so long: a worker has more to do than to wait for a slow mail server.
TURN_S = 20.0
_SUBJECT_CHARS = 150


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice as people read it."""

    subject: str
    text: str
    html: str


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


def write(notice: Notice) -> Letter:
    """The mail of a notice: the first line of `templates/mail/KIND.txt` is its subject."""
    context = {"notice": notice, "tenant": notice.tenant, "data": notice.payload}
    rendered = render_to_string(f"mail/{notice.kind}.txt", context)
    first, _, rest = rendered.strip().partition("\n")
    # One line, whatever the payload says: a header ends at a line's end.
    subject = " ".join(first.split())[:_SUBJECT_CHARS]
    text = rest.strip()
    html = render_to_string("mail/notice.html", {"subject": subject, "text": text})
    return Letter(subject, f"{text}\n", html)


def _outcome(claimed: Claim) -> Outcome:
    try:
        return _send(claimed)
    except Exception:  # one that nobody thought of must not take the others' turn
        log.exception("mail_failed", delivery=claimed.delivery_id)
        return Outcome("not sent: a fault of the relay's own")


def _send(claimed: Claim) -> Outcome:
    delivery = Delivery.objects.select_related("notice__tenant").get(pk=claimed.delivery_id)
    letter = write(delivery.notice)
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">") or "localhost"
    message = EmailMultiAlternatives(
        subject=letter.subject,
        body=letter.text,
        to=[delivery.address or ""],
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
