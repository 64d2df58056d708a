"""From a notice to a customer's server and back into the log, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import F
from django.utils import timezone

from tenants.models import Delivery, DeliveryAttempt, Notice, Tenant, WebhookEndpoint
from tenants.notices import schedule, sending, services, signature, webhooks
from tenants.wire import outbound
from tests.tenants.cast import Cast
from tests.tenants.notices.receiver import Receiver, raw, status

GAP = {"stream": "trades", "from": 7, "to": 9, "reason": "both nodes were gone"}


def tell(tenant: Tenant, *facts: str) -> list[Notice]:
    told = [
        services.notify(tenant=tenant, kind="gap.recorded", payload=GAP, dedupe=fact)
        for fact in facts or ("gap:1",)
    ]
    return [notice for notice in told if notice is not None]


def make_due() -> None:
    """As if the pauses had passed."""
    past = timezone.now() - timedelta(seconds=1)
    Delivery.objects.filter(state="pending").update(next_attempt_at=past)
    WebhookEndpoint.objects.exclude(retry_at=None).update(retry_at=past)


def log_of(delivery: Delivery) -> list[tuple[int, bool, int | None, str]]:
    rows = DeliveryAttempt.objects.filter(delivery=delivery).order_by("number")
    return list(rows.values_list("number", "is_success", "http_status", "error"))


@pytest.fixture
def shown(cast: Cast, receiver: Receiver) -> services.ShownSecret:
    return services.add_endpoint(tenant=cast.acme, url=receiver.url)


def test_a_webhook_says_what_happened_and_is_signed(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret
) -> None:
    (notice,) = tell(cast.acme)
    assert webhooks.send_due() == 1
    assert webhooks.send_due() == 0
    (request,) = receiver.received
    assert json.loads(request.body) == {
        "id": str(notice.uid),
        "kind": "gap.recorded",
        "createdAt": notice.created_at.isoformat(timespec="milliseconds"),
        "tenant": "acme",
        "data": GAP,
    }
    delivery = Delivery.objects.get()
    assert request.headers[signature.DELIVERY_HEADER] == str(delivery.uid)
    at_s = int(request.headers[signature.HEADER].split(",")[0].removeprefix("t="))
    assert request.headers[signature.HEADER] == signature.header(
        [signature.Secret(shown.secret)], body=request.body, at_s=at_s
    )
    assert abs(timezone.now().timestamp() - at_s) < 30
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 200)
    assert delivery.delivered_at is not None
    assert log_of(delivery) == [(1, True, 200, "")]
    assert DeliveryAttempt.objects.get().excerpt == "ok"


def test_failures_are_tried_again_with_the_same_id_until_one_succeeds(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret
) -> None:
    receiver.script = [
        status(500, b"<h1>oops</h1>" * 100),
        status(302, b"", Location="http://127.0.0.1:1/"),
        raw(b"garbage\r\n\r\n"),
        status(200),
    ]
    tell(cast.acme)
    for attempt in range(1, 5):
        assert webhooks.send_due() == 1
        delivery = Delivery.objects.get()
        if attempt < 4:
            assert delivery.next_attempt_at is not None
            wait_s = (delivery.next_attempt_at - timezone.now()).total_seconds()
            longest_s = schedule.pause_s(attempt, luck=0)
            assert longest_s * 0.6 - 1 < wait_s <= longest_s
            assert webhooks.send_due() == 0
            make_due()
    assert delivery.state == "delivered"
    assert log_of(delivery) == [
        (1, False, 500, "answered 500"),
        (2, False, 302, "answered 302; redirects are not followed"),
        (3, False, None, "the answer is not HTTP"),
        (4, True, 200, ""),
    ]
    assert len(DeliveryAttempt.objects.get(number=1).excerpt) == 200
    ids = {request.headers[signature.DELIVERY_HEADER] for request in receiver.received}
    assert ids == {str(delivery.uid)}
    assert len({request.body for request in receiver.received}) == 1
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.failures, endpoint.failing_since, endpoint.retry_at) == (0, None, None)


def test_the_last_attempt_is_the_last_and_a_replay_begins_anew(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret
) -> None:
    receiver.script = [status(404), status(200)]
    tell(cast.acme)
    Delivery.objects.update(attempts=schedule.MAX_ATTEMPTS - 1)
    webhooks.send_due()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.next_attempt_at) == ("failed", None)
    make_due()
    assert webhooks.send_due() == 0
    services.replay(delivery)
    assert webhooks.send_due() == 1
    services.replay(delivery)  # also what was delivered: the receiver may have lost it
    assert webhooks.send_due() == 1
    assert [(number, code) for number, _, code, _ in log_of(delivery)] == [
        (1, 404),
        (2, 200),
        (3, 200),
    ]
    assert len({request.headers[signature.DELIVERY_HEADER] for request in receiver.received}) == 1


def test_a_ping_is_sent_once_and_needs_no_subscription(cast: Cast, receiver: Receiver) -> None:
    receiver.script = [status(503)]
    endpoint = services.add_endpoint(
        tenant=cast.acme, url=receiver.url, kinds=["invoice.sent"]
    ).endpoint
    delivery = services.ping(endpoint)
    assert webhooks.send_due() == 1
    assert json.loads(receiver.received[0].body)["kind"] == "ping"
    delivery.refresh_from_db()
    assert delivery.state == "failed"
    services.ping(endpoint)  # now, though it just failed
    assert webhooks.send_due() == 1


def test_a_refused_address_is_not_connected_to(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret, settings: Any
) -> None:
    settings.RELAY_WEBHOOKS_PRIVATE = False  # as when a name moved into a private network
    WebhookEndpoint.objects.update(url=f"https://localhost:{receiver.port}/")
    tell(cast.acme)
    assert webhooks.send_due() == 1
    assert receiver.received == []
    delivery = Delivery.objects.get()
    assert delivery.state == "pending"
    assert delivery.last_error.startswith("not sent: the host has an address we do not send to")


def test_a_lost_secret_key_sends_nothing_unsigned(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret, settings: Any
) -> None:
    settings.SECRET_KEY = "another"
    tell(cast.acme)
    assert webhooks.send_due() == 1
    assert receiver.received == []
    assert "rotate the secret" in Delivery.objects.get().last_error


def test_slow_endpoints_wait_beside_each_other_and_hold_nobody_up(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound.post, "__kwdefaults__", {**_defaults(), "deadline_s": 1.0})
    with Receiver() as slow:
        slow.script = [slow.hang]
        for _ in range(5):
            services.add_endpoint(tenant=cast.other, url=slow.url)
        tell(cast.other, *(f"gap:{n}" for n in range(9)))
        tell(cast.acme)
        began = timezone.now()
        sent = webhooks.send_due()
        while receiver.received == [] and sent:
            sent = webhooks.send_due()
        assert len(receiver.received) == 1
        assert (timezone.now() - began).total_seconds() < 10
    # From now on each of the slow is asked with one at a time, and not yet.
    assert webhooks.send_due() == 0
    make_due()
    assert len(sending.due_webhooks(timezone.now())) == 5


def _defaults() -> dict[str, Any]:
    return dict(outbound.post.__kwdefaults__ or {})


def test_an_endpoint_that_only_fails_is_disabled_and_told_why(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret
) -> None:
    receiver.script = [status(500)]
    tell(cast.acme, "gap:1", "gap:2")
    webhooks.send_due()
    WebhookEndpoint.objects.update(failing_since=F("failing_since") - sending.FAILING_AT_MOST)
    make_due()
    webhooks.send_due()
    endpoint = WebhookEndpoint.objects.get()
    assert not endpoint.is_enabled
    assert endpoint.disabled_reason == "no delivery succeeded for 5 days; last: answered 500"
    assert set(Delivery.objects.values_list("state", flat=True)) == {"abandoned"}
    assert Notice.objects.filter(kind="webhook.disabled").count() == 1
    with pytest.raises(ValidationError):
        services.ping(endpoint)


def test_a_claim_is_one_workers_alone_and_ends_by_itself(
    cast: Cast, receiver: Receiver, shown: services.ShownSecret
) -> None:
    tell(cast.acme)
    now = timezone.now()
    (one,), (other,) = sending.due_webhooks(now), sending.due_webhooks(now)
    first = sending.claim(one, now=now)
    assert first is not None
    assert sending.claim(other, now=now) is None
    assert sending.due_webhooks(now) == []
    later = now + sending.CLAIM
    (again,) = sending.due_webhooks(later)
    second = sending.claim(again, now=later)
    assert second is not None
    # The first comes back, too late: it is logged, and plans nothing for the second.
    sending.record(first, sending.Outcome("answered 500", http_status=500))
    delivery = Delivery.objects.get()
    assert (delivery.attempts, delivery.next_attempt_at) == (2, second.until)
    sending.record(second, sending.Outcome(http_status=200))
    sending.record(first, sending.Outcome("answered 500", http_status=500))
    assert Delivery.objects.get().state == "delivered"
    assert DeliveryAttempt.objects.count() == 3


@pytest.fixture
def committed(committed_cast: Cast, receiver: Receiver) -> Iterator[Cast]:
    services.add_endpoint(tenant=committed_cast.acme, url=receiver.url)
    yield committed_cast
    connection.close()


def test_several_sweepers_at_once_make_one_attempt_of_each(
    committed: Cast, receiver: Receiver
) -> None:
    tell(committed.acme, *(f"gap:{n}" for n in range(12)))
    barrier, failures = threading.Barrier(4), []

    def sweep() -> None:
        try:
            for _ in range(6):
                barrier.wait(10)
                webhooks.send_due()
        except Exception as error:
            failures.append(error)
            barrier.abort()
        finally:
            connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(Delivery.objects.values_list("state", "attempts")) == {("delivered", 1)}
    ids = [request.headers[signature.DELIVERY_HEADER] for request in receiver.received]
    assert len(ids) == len(set(ids)) == 12


def test_two_who_tell_the_same_fact_at_once_tell_it_once(committed: Cast) -> None:
    barrier, told, failures = threading.Barrier(4), [], []

    def work() -> None:
        try:
            for n in range(8):
                barrier.wait(10)
                told.extend(tell(committed.acme, f"gap:{n}"))
        except Exception as error:
            failures.append(error)
            barrier.abort()
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(told) == Notice.objects.count() == Delivery.objects.count() == 8


def test_outcomes_of_one_endpoint_at_once_disable_it_once(committed: Cast) -> None:
    """Each locks the endpoint before its delivery, and one disables: nobody waits in a circle."""
    tell(committed.acme, *(f"gap:{n}" for n in range(8)))
    now = timezone.now()
    claims = [
        claimed
        for seen in Delivery.objects.values_list("pk", "attempts", "next_attempt_at")
        if (claimed := sending.claim(seen, now=now)) is not None
    ]
    since = now - sending.FAILING_AT_MOST
    WebhookEndpoint.objects.update(failures=1, failing_since=since)
    barrier, failures = threading.Barrier(len(claims)), []

    def work(claimed: sending.Claim) -> None:
        try:
            barrier.wait(10)
            sending.record(claimed, sending.Outcome("answered 500", http_status=500))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(claimed,)) for claimed in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert DeliveryAttempt.objects.count() == 8
    assert not WebhookEndpoint.objects.get().is_enabled
    assert set(Delivery.objects.values_list("state", flat=True)) == {"abandoned"}
    assert Notice.objects.filter(kind="webhook.disabled").count() == 1
