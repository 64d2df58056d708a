"""Operators see what was charged and what was told, and have it done again."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.invoicing import crediting
from billing.models import Invoice, PaymentAllocation, ProviderEvent
from billing.payments import charging
from billing.payments.provider import PaymentProvider
from tests.billing.payments.conftest import Post
from tests.support.fake_stripe import FakeStripe

ATTEMPTS = "/admin/billing/chargeattempt/"
PAGES = ("chargeattempt", "providerreturn", "providerevent", "providercustomer")


def act(client: Client, url: str, action: str, row: int, **answers: object) -> str:
    data = {"action": action, "_selected_action": [row], **answers}
    return client.post(url, data, follow=True).content.decode()


def test_try_again_now(
    operator: Client, provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    fake.faults.append("declined")
    charging.run_due(provider)
    first = invoice.charge_attempts.get(number=1)
    page = operator.get(ATTEMPTS).content.decode()
    assert "insufficient_funds" in page
    assert "Try again now" in page
    said = act(operator, ATTEMPTS, "try_now", first.pk, confirmed="1")
    assert "is asked about now" in said
    charging.run_due(provider)
    assert invoice.charge_attempts.filter(state="succeeded").count() == 1
    assert "nothing is to pay" in act(operator, ATTEMPTS, "try_now", first.pk, confirmed="1")


def test_money_is_sent_back(
    operator: Client, provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    charging.run_due(provider)
    attempt = invoice.charge_attempts.get()
    answers = {"confirmed": "1", "amount": "49", "reason": "asked for"}
    assert "credit the invoice" in act(operator, ATTEMPTS, "refund", attempt.pk, **answers)
    crediting.credit(invoice, by="ben", reason="not wanted")
    act(operator, ATTEMPTS, "refund", attempt.pk, **answers)
    assert PaymentAllocation.objects.filter(kind="refund").count() == 1
    assert fake.taken() == 0


def test_old_invoices_are_charged_when_an_operator_says_so(
    operator: Client, provider: PaymentProvider, fake: FakeStripe, invoice: Invoice
) -> None:
    customer = invoice.tenant.provider_customers.get()
    url = "/admin/billing/providercustomer/"
    assert "1 begun" in act(operator, url, "charge_open", customer.pk, confirmed="1")
    assert "0 begun" in act(operator, url, "charge_open", customer.pk, confirmed="1")


def test_the_pages_are_read_only_and_ask_a_fixed_number_of_queries(
    operator: Client, provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, post: Post
) -> None:
    charging.run_due(provider)
    fake.dispute(next(iter(fake.intents)), 1000)
    post.bring()
    for page in PAGES:
        url = f"/admin/billing/{page}/"
        with CaptureQueriesContext(connection) as seen:
            text = operator.get(url).content.decode()
        assert len(seen) < 20
        row = re.search(r'name="_selected_action" value="(\d+)"', text)
        for path, status in (("add/", 403), (f"{row[1] if row else 0}/delete/", 403)):
            assert operator.post(url + path, {}).status_code == status, page


def test_an_event_is_processed_again(
    operator: Client, provider: PaymentProvider, fake: FakeStripe, invoice: Invoice, post: Post
) -> None:
    charging.run_due(provider)
    post.bring()
    event = ProviderEvent.objects.filter(kind="payment_intent.succeeded").get()
    act(operator, "/admin/billing/providerevent/", "process_again", event.pk, confirmed="1")
    event.refresh_from_db()
    assert event.processed_at is None
    post.bring()
    event.refresh_from_db()
    assert event.processed_at is not None


@pytest.mark.django_db
def test_who_may_only_look_is_offered_nothing() -> None:
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[f"view_{page}" for page in PAGES])
    )
    client = Client()
    client.force_login(user)
    for page in PAGES:
        text = client.get(f"/admin/billing/{page}/").content.decode()
        assert "Try again now" not in text
        assert "Process again" not in text
        assert "Charge all open" not in text
