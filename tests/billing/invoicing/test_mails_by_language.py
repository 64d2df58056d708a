"""Invoices, credit notes and reminders by mail: in the language of who reads there, with documents
that stay as they were drawn."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone, translation
from structlog.testing import capture_logs

from billing import tasks
from billing.invoicing import crediting, sending
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.documents import document, render_html
from billing.invoicing.sending import send
from billing.models import Invoice, Seller
from tenants.models import BillingProfile, Notice
from tenants.people.roles import Role
from tests.billing.invoicing.books import NOVEMBER, PlainBook
from tests.billing.invoicing.test_credit_laws import discount
from tests.tenants.cast import Cast
from tests.tenants.mailed import (
    CHINESE,
    assert_no_secret,
    assert_reads,
    in_both_languages,
    reads,
)
from tests.tenants.people import make_member, make_person, owner_of

pytestmark = pytest.mark.django_db
SELLER, BUYER, THEIRS = "Relay Works", "Acme Ltd", "ap@acme.example"


@pytest.fixture(autouse=True)
def no_mail_tells_a_secret() -> Iterator[None]:
    yield
    for message in mail.outbox:
        assert_no_secret(message)


@pytest.fixture
def invoice(cast: Cast, book: PlainBook) -> Invoice:
    return bill(cast)


def bill(cast: Cast) -> Invoice:
    """Acme's of October, to an address that is nobody's user."""
    Seller.objects.create(name=SELLER, address="Old Street 1", email="books@relay.example")
    BillingProfile.objects.create(
        tenant=cast.acme, legal_name=BUYER, country="GB", invoice_email=THEIRS
    )
    close_due_periods(NOVEMBER)
    finalize_due(NOVEMBER + timedelta(hours=72))
    return Invoice.objects.get(tenant=cast.acme)


@in_both_languages
def test_what_is_sent_reads_as_the_owner_does(cast: Cast, invoice: Invoice, language: str) -> None:
    reads(owner_of(cast.acme).user, language)
    drawn = render_html(invoice)
    tasks.send_invoices.apply()
    (message,) = mail.outbox
    assert message.to == [THEIRS]
    assert message.reply_to == ["books@relay.example"]
    due = f"{invoice.due_at:%Y-%m-%d}"
    shown = {invoice.number, SELLER, BUYER, "49.00", "USD", due}
    assert_reads(message, language, shown=shown)
    assert not [each for each in shown if str(each) not in f"{message.subject}{message.body}"]
    # The document is the same for all who read it, and what programs are told is too.
    ((name, pdf, _),) = message.attachments
    assert (name, bytes(pdf)) == (f"{invoice.number}.pdf", bytes(document(invoice, "pdf").body))
    with translation.override(CHINESE):
        assert render_html(invoice) == drawn
    assert not re.search("[\u4e00-\u9fff]", drawn)
    assert Notice.objects.get(kind="invoice.sent").payload["due_on"] == due


@in_both_languages
def test_a_reminder(
    cast: Cast, invoice: Invoice, language: str, monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    reads(owner_of(cast.acme).user, language)
    send(invoice)
    mail.outbox.clear()
    assert invoice.due_at is not None
    for days in (1, 4):
        later = invoice.due_at + timedelta(days=days)
        monkeypatch.setattr(timezone, "now", lambda later=later: later)
        with django_capture_on_commit_callbacks(execute=True):
            tasks.dun.apply()
    (message,) = mail.outbox
    shown = {invoice.number, SELLER, BUYER, "49.00", "USD"}
    assert_reads(message, language, shown=shown)
    subject = {"en": f"Reminder: invoice {invoice.number} is overdue",
               CHINESE: f"提醒：發票 {invoice.number} 已逾期"}  # fmt: skip
    assert message.subject == subject[language]
    assert "49.00 USD" in str(message.body)
    assert len(message.attachments) == 1


@in_both_languages
def test_a_credit_note(cast: Cast, invoice: Invoice, language: str) -> None:
    reads(owner_of(cast.acme).user, language)
    send(invoice)
    mail.outbox.clear()
    note = crediting.credit(invoice, reason="An <b>outage</b>", by="ada")
    tasks.send_invoices.apply()
    (message,) = mail.outbox
    shown = {note.number, invoice.number, SELLER, BUYER, "An <b>outage</b>", "USD"}
    assert_reads(message, language, shown=shown)
    assert not [each for each in shown if str(each) not in f"{message.subject}{message.body}"]
    assert [name for name, *_ in message.attachments] == [f"{note.number}.pdf"]


@in_both_languages
def test_nothing_to_pay_is_due_on_no_day(cast: Cast, book: PlainBook, language: str) -> None:
    book.discounts = [discount("plan_fee", 100, None)]
    reads(owner_of(cast.acme).user, language)
    invoice = bill(cast)
    tasks.send_invoices.apply()
    (message,) = mail.outbox
    assert f"{invoice.due_at:%Y-%m-%d}" not in str(message.body)
    assert "0.00 USD" in str(message.body)
    assert_reads(message, language, shown={invoice.number, SELLER, BUYER, "USD"})


def test_owners_of_two_languages_get_a_mail_each(cast: Cast, invoice: Invoice) -> None:
    """Those of one language share theirs, as before."""
    BillingProfile.objects.update(invoice_email="")
    owner_of(cast.acme)
    make_member(cast.acme, "ben", Role.OWNER)
    reads(make_member(cast.acme, "mei", Role.OWNER).user, CHINESE)
    tasks.send_invoices.apply()
    english, chinese = mail.outbox
    assert (english.to, chinese.to) == (["ada@example.com", "ben@example.com"], ["mei@example.com"])
    assert_reads(english, "en")
    assert_reads(chinese, CHINESE, shown={invoice.number, SELLER, BUYER, "USD"})
    assert len(chinese.attachments) == len(english.attachments) == 1
    assert invoice.events.filter(kind="sent").count() == 1


def test_an_accountant_with_an_account_elsewhere_reads_their_own(
    cast: Cast, invoice: Invoice
) -> None:
    owner_of(cast.acme)
    reads(make_person("ap"), CHINESE)
    BillingProfile.objects.update(invoice_email="ap@example.com")
    tasks.send_invoices.apply()
    assert_reads(mail.outbox[0], CHINESE, shown={invoice.number, SELLER, BUYER, "USD"})


class PickyBackend(EmailBackend):
    """A mail server that knows no such reader: a mail of which nobody is left is not taken."""

    unknown: frozenset[str] = frozenset()

    def send_messages(self, messages: Any) -> int:
        for message in messages:
            if self.unknown.issuperset(message.to):
                raise smtplib.SMTPRecipientsRefused({each: (550, b"no") for each in message.to})
        return super().send_messages(messages)


ADA, MEI = "ada@example.com", "mei@example.net"


@pytest.fixture
def refuse(cast: Cast, invoice: Invoice, settings: Any) -> Iterator[Callable[..., None]]:
    """Ada reads English and Mei Chinese; those who are named are refused."""
    reads(owner_of(cast.acme).user, "en")
    mei = reads(make_member(cast.acme, "mei", Role.OWNER).user, CHINESE)
    User.objects.filter(pk=mei.pk).update(email=MEI)
    BillingProfile.objects.update(invoice_email="")
    settings.EMAIL_BACKEND = f"{__name__}.PickyBackend"

    def name(*unknown: str) -> None:
        PickyBackend.unknown = frozenset(unknown)

    yield name
    name()


@pytest.mark.parametrize(("refused", "reader"), [(ADA, MEI), (MEI, ADA)])
def test_a_language_that_is_refused_keeps_it_from_no_other(
    invoice: Invoice, refuse: Callable[..., None], refused: str, reader: str
) -> None:
    """Nor is it sent to them again and again; who was refused is in the log, but for the name."""
    refuse(refused)
    with capture_logs() as logs:
        tasks.send_invoices.apply()
        tasks.send_invoices.apply()
    assert [message.to for message in mail.outbox] == [[reader]]
    assert list(invoice.events.filter(kind="sent").values_list("kind", flat=True)) == ["sent"]
    (line,) = [each for each in logs if each["event"] == "document_not_taken"]
    assert line["number"] == invoice.number
    assert line["domains"] == [refused.rpartition("@")[2]]
    assert "@" not in str(line)
    refuse()
    assert send(invoice, again=True)
    assert [message.to for message in mail.outbox[1:]] == [[ADA], [MEI]]


@pytest.mark.parametrize("is_credit", [False, True])
def test_a_language_that_was_refused_is_tried_again_alone(
    invoice: Invoice, refuse: Callable[..., None], is_credit: bool
) -> None:
    """Later each time: its server may have been away. Who got theirs gets no other."""
    number = invoice.number
    if is_credit:
        send(invoice)
        mail.outbox.clear()
        number = crediting.credit(invoice, reason="An outage", by="ada").number
    refuse(MEI)
    at = timezone.now()
    sending.send_due(at)
    sending.send_due(at + sending.REST_AFTER * 1.01)
    refuse()
    sending.send_due(at + sending.REST_AFTER * 2)  # too soon for a third
    assert [message.to for message in mail.outbox] == [[ADA]]
    for _ in range(2):
        sending.send_due(at + sending.REST_AFTER * 4)
    assert [message.to for message in mail.outbox] == [[ADA], [MEI]]
    shown = {number, invoice.number, SELLER, BUYER, "USD", "An outage"}
    assert_reads(mail.outbox[1], CHINESE, shown=shown)
    assert invoice.events.filter(kind__in=["sent", "credit_sent"]).count() == 1 + is_credit


def test_a_reader_whom_no_server_knows_is_given_up(
    invoice: Invoice, refuse: Callable[..., None]
) -> None:
    refuse(MEI)
    at = timezone.now()
    with capture_logs() as logs:
        for hours in range(48):
            sending.send_due(at + timedelta(hours=hours))
    events = [each["event"] for each in logs]
    assert events.count("document_not_taken") == 1 + sending.REST_TRIES
    assert events.count("document_given_up") == 1
    refuse()
    assert send(invoice, again=True)
    assert [message.to for message in mail.outbox] == [[ADA], [ADA], [MEI]]


def test_what_nobody_takes_is_not_sent_and_tried_again(
    invoice: Invoice, refuse: Callable[..., None]
) -> None:
    refuse(ADA, MEI)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(invoice)
    tasks.send_invoices.apply()
    assert not invoice.events.filter(kind="sent").exists()
    refuse()
    tasks.send_invoices.apply()
    assert [message.to for message in mail.outbox] == [[ADA], [MEI]]


def test_so_it_is_with_credit_notes_and_reminders(
    invoice: Invoice, refuse: Callable[..., None], django_capture_on_commit_callbacks: Any
) -> None:
    send(invoice)
    mail.outbox.clear()
    refuse(ADA)
    with django_capture_on_commit_callbacks(execute=True):
        sending.remind_on_commit(invoice, invoice.payable)
    assert [message.to for message in mail.outbox] == [[MEI]]
    crediting.credit(invoice, reason="An outage", by="ada")
    tasks.send_invoices.apply()
    tasks.send_invoices.apply()
    assert [message.to for message in mail.outbox] == [[MEI], [MEI]]
    assert invoice.events.filter(kind="credit_sent").count() == 1
