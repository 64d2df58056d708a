"""The signature is the door; what comes through it counts once."""

from __future__ import annotations

import io
import logging
import time
from typing import Any

import pytest
from django.test import Client

from billing.models import ProviderCustomer, ProviderEvent
from billing.payments import charging, chosen
from billing.payments.provider import PaymentProvider, WebhookRefusedError
from relay_site.logging import make_formatter
from tests.billing.payments.conftest import Post
from tests.support.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe
from tests.tenants.cast import Cast

URL = "/webhooks/stripe/"
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "payment_intent.succeeded",
    "created": 1_790_000_000,
    "data": {"object": {"id": "pi_1", "object": "payment_intent"}},
}


def sign(body: bytes, **how: Any) -> str:
    return FakeStripe.signature(body, **how)


def _swapped(body: bytes) -> str:
    good = sign(body)
    return good[:-1] + ("0" if good[-1] != "0" else "1")


BODY = FakeStripe.body(EVENT)
REFUSED: dict[str, tuple[bytes, str | None]] = {
    "missing": (BODY, None),
    "empty": (BODY, ""),
    "wrong": (BODY, _swapped(BODY)),
    "nonsense": (BODY, "hello"),
    "no time": (BODY, "v1=" + sign(BODY).partition("v1=")[2]),
    "time is no number": (BODY, "t=now,v1=00"),
    "not ASCII": (BODY, f"t={int(time.time())},v1=\xe9"),
    "another scheme": (BODY, sign(BODY).replace("v1=", "v0=")),
    "old": (BODY, sign(BODY, at=int(time.time()) - 301)),
    "replayed with a new time": (BODY, sign(BODY, at=1).replace("t=1,", f"t={int(time.time())},")),
    "body changed by one byte": (BODY.replace(b"pi_1", b"pi_2"), sign(BODY)),
    "a byte more": (BODY + b" ", sign(BODY)),
    "other endpoint's secret": (BODY, sign(BODY, secret="whsec_ofanotherendpoint")),
    "signed with nothing": (BODY, sign(BODY, secret="")),
    "signed, not JSON": (b"{", sign(b"{")),
    "signed, not an event": (b"[1]", sign(b"[1]")),
    "signed, not text": (b"\xff", sign(b"\xff")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(provider: PaymentProvider, db: None, name: str) -> None:
    body, signature = REFUSED[name]
    headers = {} if signature is None else {"Stripe-Signature": signature}
    with pytest.raises(WebhookRefusedError) as refused:
        provider.parse_webhook(body, headers)
    assert WEBHOOK_SECRET not in str(refused.value)
    answer = Client().post(URL, body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert not ProviderEvent.objects.exists()


def test_replayed_and_twice_is_once(
    provider: PaymentProvider, fake: FakeStripe, db: None, post: Post
) -> None:
    """The same request, and the same event signed anew, as the provider sends it again."""
    now = int(time.time())
    for at in (now, now, now - 200):
        assert post.send(EVENT, at=at) == 200
    row = ProviderEvent.objects.get()
    assert (row.kind, row.reference) == ("payment_intent.succeeded", "pi_1")
    assert row.processed_at is None


def test_other_requests(provider: PaymentProvider, db: None, settings: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.get(URL).status_code == 405
    assert client.post("/webhooks/other/", BODY, content_type="x/y").status_code == 404
    large = b" " * 300_000
    answer = client.post(
        URL, large, content_type="application/json", headers={"Stripe-Signature": sign(large)}
    )
    assert answer.status_code == 413
    settings.RELAY_PAYMENTS = "manual"
    signed = {"Stripe-Signature": sign(BODY)}
    answer = client.post(URL, BODY, content_type="application/json", headers=signed)
    assert answer.status_code == 404


def test_what_says_nothing_to_us_is_kept_and_done(
    provider: PaymentProvider, fake: FakeStripe, db: None, post: Post
) -> None:
    assert post.send(EVENT | {"type": "balance.available", "data": {"object": {}}}) == 200
    assert ProviderEvent.objects.get().processed_at is not None


def test_a_provider_that_is_down_is_asked_again(
    provider: PaymentProvider, fake: FakeStripe, customer: ProviderCustomer, post: Post
) -> None:
    fake.is_down = True
    fake.leave_method(customer.reference, "pm_new")
    post.bring()
    for row in ProviderEvent.objects.filter(reference=customer.reference):
        assert row.processed_at is None
        assert row.error
    fake.is_down = False
    ProviderEvent.objects.update(next_at=row.received_at)
    post.bring()
    customer.refresh_from_db()
    assert customer.method == "pm_new"


def test_no_secret_in_logs(
    fake: FakeStripe, invoice: Any, post: Post, settings: Any, cast: Cast
) -> None:
    """With everything logged, down to the library's own lines and tracebacks of its errors."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(make_formatter(is_production=True))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for fault in ("401", "lost before", "declined", ""):
            fake.faults.append(fault)
            charging.run_due(chosen.provider())
            invoice.charge_attempts.filter(is_open=True).update(next_at=invoice.finalized_at)
        post.send(EVENT, secret="whsec_anotherandwrongone")
        settings.STRIPE_SECRET_KEY = "sk_test_anotherandwrongone"
        provider = chosen.provider()
        try:
            provider.look("pi_1")
        except Exception:
            logging.getLogger("tests").exception("with %s", settings.STRIPE_SECRET_KEY)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    text = written.getvalue()
    assert "payment_webhook_refused" in text
    assert "charge_unknown" in text
    for secret in (SECRET_KEY, WEBHOOK_SECRET, "anotherandwrongone"):
        assert secret not in text
    assert SECRET_KEY not in repr(provider) + str(
        list(invoice.charge_attempts.values_list("failure", flat=True))
    )
