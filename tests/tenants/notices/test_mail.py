"""Notices as mail: once, in two forms, without a header or a tag of the payload's."""

from __future__ import annotations

import re
import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as django_mail
from django.utils import timezone

from tenants.models import Delivery, DeliveryAttempt, Notice
from tenants.notices import mail, services
from tenants.notices.kinds import KINDS
from tests.tenants.cast import Cast

PAYLOAD = {
    "allowance": "messages", "used": "750", "limit": "1000", "percent": 75,
    "resets_at": "2026-12-01",
    "number": "INV-7", "total": "12.50", "currency": "USD", "due_on": "2026-11-30",
    "prefix": "hlr_live_ab12", "ends_at": "2026-12-01T00:00:00Z", "stream": "trades",
    "from": 7, "to": 9, "reason": "both nodes were gone", "endpoint": "3f0e1c52",
    "amount": "12.50", "invoice": "INV-6", "next_attempt_at": "2026-12-02 00:00",
}  # fmt: skip


def tell(cast: Cast, kind: str = "invoice.sent", *to: str, **payload: Any) -> None:
    services.notify(
        tenant=cast.acme,
        kind=kind,
        payload=PAYLOAD | payload,
        dedupe=f"{kind}:1",
        to=to or ["ada@acme.example"],
    )


def test_mail_is_sent_once_to_each(cast: Cast) -> None:
    tell(cast, "invoice.sent", "ada@acme.example", "ben@acme.example")
    assert mail.send_due() == 2
    assert mail.send_due() == 0
    sent = django_mail.outbox
    assert sorted(message.to[0] for message in sent) == ["ada@acme.example", "ben@acme.example"]
    assert {len(message.to) for message in sent} == {1}  # nobody sees who else got it
    assert sent[0].subject == "Invoice INV-7 of 12.50 USD"
    assert "due on 2026-11-30" in sent[0].body
    (html,) = sent[0].alternatives
    assert html[1] == "text/html"
    assert "due on 2026-11-30" in html[0]
    delivery = Delivery.objects.get(address=sent[0].to[0])
    assert str(delivery.uid) in sent[0].message()["Message-ID"]
    assert (delivery.state, delivery.attempts) == ("delivered", 1)
    assert DeliveryAttempt.objects.filter(is_success=True).count() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_as_a_letter(cast: Cast, kind: str) -> None:
    tell(cast, kind)
    letter = mail.write(Notice.objects.get(), "en")
    assert "Acme" in letter.subject + letter.text
    for text in (letter.subject, letter.text):
        assert not re.search(r"\{|\}|None|[^ ]  +[^ ]|\n\n\n", text), text
    assert all(str(PAYLOAD[name]) in letter.subject + letter.text for name in KINDS[kind])


def test_a_payload_writes_no_header_and_no_tag(cast: Cast) -> None:
    evil = "x\r\nBcc: all@acme.example\r\n\r\n<script>alert(1)</script>{{ settings.SECRET_KEY }}"
    tell(cast, number=evil)
    mail.send_due()
    (message,) = django_mail.outbox
    assert "\n" not in message.subject
    assert message.recipients() == ["ada@acme.example"]
    assert message.message()["Bcc"] is None
    assert "<script>" in message.body
    assert "<script>" not in message.alternatives[0][0]
    assert "{{ settings.SECRET_KEY }}" in message.body


class FailingBackend:
    """A mail server that does what a test says."""

    error: Exception

    def __init__(self, **options: Any) -> None:
        pass

    def send_messages(self, messages: Any) -> int:
        raise FailingBackend.error


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (ConnectionRefusedError("10.0.0.5 refused"), "pending", "ConnectionRefusedError"),
        (
            smtplib.SMTPAuthenticationError(535, b"relay, s3cret"),
            "pending",
            "answered 535",
        ),
        (
            smtplib.SMTPRecipientsRefused({"ada@acme.example": (550, b"no such user")}),
            "failed",
            "refused the address (550)",
        ),
        (
            smtplib.SMTPRecipientsRefused({"ada@acme.example": (450, b"later")}),
            "pending",
            "refused the address (450)",
        ),
        (RuntimeError("s3cret"), "pending", "a fault of the relay's own"),
    ],
)
def test_a_mail_server_that_fails(
    cast: Cast, settings: Any, error: Exception, state: str, told: str
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.FailingBackend"
    FailingBackend.error = error
    tell(cast)
    assert mail.send_due() == 1
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts) == (state, 1)
    assert told in delivery.last_error
    assert "s3cret" not in delivery.last_error
    if state == "pending":
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
        Delivery.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
        assert mail.send_due() == 1
        assert Delivery.objects.get().state == "delivered"
