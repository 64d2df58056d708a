"""Whether the relay can send mail, tried by sending one to whoever asks."""

from __future__ import annotations

import smtplib

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage, get_connection
from django.utils import timezone

TIMEOUT_S = 10


class MailFailed(Exception):
    """It cannot; one line saying why, without password or address of the server's user."""


def send_test_mail(user: User) -> str:
    """Send a mail to the operator's own address, and answer it. Raises MailFailed."""
    if not user.email:
        raise MailFailed("Your user has no e-mail address: set one under Operators.")
    message = EmailMessage(
        subject=f"{settings.RELAY_SITE_NAME}: the mail settings work",
        body=f"Sent from the admin at {timezone.now():%Y-%m-%d %H:%M:%S} UTC, to try it.\n",
        to=[user.email],
        connection=get_connection(timeout=TIMEOUT_S)
        if "smtp" in settings.EMAIL_BACKEND
        else get_connection(),
    )
    try:
        message.send()
    except (OSError, ValueError) as error:  # smtplib's own are OSErrors
        raise MailFailed(_told(error)) from error
    return user.email


def _told(error: Exception) -> str:
    """Of an SMTP answer the code and its text; a log-in that is refused may quote what was sent."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        text = f"{error.smtp_code}, the mail server refuses the user or the password"
    elif isinstance(error, smtplib.SMTPResponseException):
        answer = error.smtp_error
        said = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
        text = f"{error.smtp_code} {said}"
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:200]
