"""A fact is told once, with the transaction that makes it one, to whoever wants to hear it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from tenants.models import Delivery, DeliveryAttempt, Notice, Tenant, WebhookEndpoint
from tenants.notices import recipients, services, signature, webhooks
from tests.tenants.cast import Cast

OVERDUE = {"number": "INV-7", "total": "12.50", "currency": "USD", "due_on": "2026-11-30"}
URL = "https://hooks.example/relay"


def tell(tenant: Tenant, dedupe: str = "invoice:7", **options: Any) -> Notice | None:
    return services.notify(
        tenant=tenant, kind="invoice.overdue", payload=OVERDUE, dedupe=dedupe, **options
    )


def test_a_fact_is_told_once_to_those_who_want_it(cast: Cast) -> None:
    every = services.add_endpoint(tenant=cast.acme, url=URL).endpoint
    some = services.add_endpoint(tenant=cast.acme, url=URL, kinds=["invoice.overdue"]).endpoint
    services.add_endpoint(tenant=cast.acme, url=URL, kinds=["gap.recorded"])
    disabled = services.add_endpoint(tenant=cast.acme, url=URL).endpoint
    services.disable_endpoint(disabled)
    services.add_endpoint(tenant=cast.other, url=URL)

    notice = tell(cast.acme, to=["Ada@Acme.example", "ben@acme.example", "ada@acme.example "])
    assert notice is not None
    told = Delivery.objects.filter(notice=notice)
    assert {delivery.endpoint for delivery in told if delivery.endpoint} == {every, some}
    mailed = [delivery.address for delivery in told if delivery.address]
    assert sorted(mailed) == ["ada@acme.example", "ben@acme.example"]
    assert {delivery.state for delivery in told} == {Delivery.State.PENDING}

    assert tell(cast.acme, to=["else@acme.example"]) is None
    assert tell(cast.acme, dedupe="INVOICE:7") is None
    assert Delivery.objects.filter(notice__kind="invoice.overdue").count() == 4
    assert tell(cast.other, to=[]) is not None  # another tenant's is another fact


def test_what_is_rolled_back_is_never_told(cast: Cast) -> None:
    class Oops(Exception):
        pass

    @transaction.atomic
    def tell_and_fail() -> None:
        tell(cast.acme)
        raise Oops

    with pytest.raises(Oops):
        tell_and_fail()
    assert not Notice.objects.exists()
    assert tell(cast.acme) is not None


def test_a_collision_leaves_the_callers_transaction_usable(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(cast.acme)
    # The look before the insert sees nothing, as when two tell at once.
    monkeypatch.setattr(Notice.objects, "filter", lambda **_: Notice.objects.none())
    assert tell(cast.acme) is None
    assert Tenant.objects.filter(pk=cast.acme.pk).exists()


def test_the_port_says_whom_to_mail(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def people(tenant: Tenant, kind: str) -> list[str]:
        asked.append((tenant, kind))
        return ["ada@acme.example"]

    monkeypatch.setattr(recipients, "_recipients", recipients.nobody)
    monkeypatch.setattr(recipients, "_language", recipients.default)  # put back: `plug` sets it too
    assert tell(cast.acme, "first") is not None
    assert not Delivery.objects.exists()
    recipients.plug(people)
    tell(cast.acme, "second")
    assert [delivery.address for delivery in Delivery.objects.all()] == ["ada@acme.example"]
    assert asked == [(cast.acme, "invoice.overdue")]


def test_nobody_is_told_a_key_or_at_a_bad_address(cast: Cast) -> None:
    for payload, to in (
        ({**OVERDUE, "note": f"hlr_live_{'a' * 38}"}, []),
        (OVERDUE, ["not an address"]),
        (OVERDUE, ["a@b.example\nBcc: all@b.example"]),
    ):
        with pytest.raises(ValueError, match=r"API key|not a mail address"):
            services.notify(
                tenant=cast.acme, kind="invoice.overdue", payload=payload, dedupe="x", to=to
            )
    assert not Notice.objects.exists()


@pytest.mark.parametrize(
    ("url", "kinds", "told"),
    [
        ("http://hooks.example/", [], "must be https"),
        ("https://10.0.0.1/", [], "RELAY_WEBHOOKS_PRIVATE"),
        ("https://a:b@hooks.example/", [], "no user or password"),
        ("", [], "must be https"),
        (URL, ["quota.exploded"], "Unknown kind"),
        (URL, ["ping"], "Unknown kind"),
        (URL, ["gap.recorded", "gap.recorded"], "named twice"),
    ],
)
def test_what_no_endpoint_can_be(cast: Cast, url: str, kinds: list[str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        services.add_endpoint(tenant=cast.acme, url=url, kinds=kinds)
    assert not WebhookEndpoint.objects.exists()


def test_a_tenant_has_so_many_endpoints_at_most(cast: Cast) -> None:
    endpoints = [
        services.add_endpoint(tenant=cast.acme, url=URL).endpoint
        for _ in range(services.MAX_ENDPOINTS)
    ]
    with pytest.raises(ValidationError, match="at most 20"):
        services.add_endpoint(tenant=cast.acme, url=URL)
    services.add_endpoint(tenant=cast.other, url=URL)
    services.disable_endpoint(endpoints[0])
    services.add_endpoint(tenant=cast.acme, url=URL)
    with pytest.raises(ValidationError, match="at most 20"):
        services.enable_endpoint(endpoints[0])


def test_a_secret_is_shown_once_and_is_in_no_table(cast: Cast) -> None:
    shown = services.add_endpoint(tenant=cast.acme, url=URL)
    again = services.rotate_secret(shown.endpoint)
    assert shown.secret not in repr(shown)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tenants_webhookendpoint")
        dump = repr(cursor.fetchall())
    assert shown.secret[6:] not in dump
    assert again.secret[6:] not in dump


def signing(endpoint: WebhookEndpoint) -> list[str]:
    endpoint.refresh_from_db()
    return [secret.text for secret in webhooks.secrets_of(endpoint)]


def test_a_rotation_overlaps_as_long_as_was_chosen(cast: Cast) -> None:
    first = services.add_endpoint(tenant=cast.acme, url=URL)
    endpoint = first.endpoint
    assert signing(endpoint) == [first.secret]
    second = services.rotate_secret(endpoint, overlap=timedelta(hours=1))
    assert signing(endpoint) == [second.secret, first.secret]
    third = services.rotate_secret(endpoint, overlap=timedelta(hours=1))
    assert signing(endpoint) == [third.secret, second.secret]
    past = timezone.now() - timedelta(hours=2)
    fourth = services.rotate_secret(endpoint, overlap=timedelta(hours=1), now=past)
    assert signing(endpoint) == [fourth.secret]
    fifth = services.rotate_secret(endpoint, overlap=timedelta(0))
    assert signing(endpoint) == [fifth.secret]
    assert len({s.secret for s in (first, second, third, fourth, fifth)}) == 5
    for bad in (timedelta(seconds=-1), timedelta(days=7, seconds=1)):
        with pytest.raises(ValidationError, match="within 0 seconds and 7 days"):
            services.rotate_secret(endpoint, overlap=bad)


def test_a_changed_secret_key_signs_on_with_its_fallback(cast: Cast, settings: Any) -> None:
    shown = services.add_endpoint(tenant=cast.acme, url=URL)
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [old]
    assert signing(shown.endpoint) == [shown.secret]
    settings.SECRET_KEY_FALLBACKS = []
    assert signing(shown.endpoint) == []
    assert signing(services.rotate_secret(shown.endpoint).endpoint) != []
    assert signature.derive(old, endpoint=shown.endpoint.uid, generation=1).text == shown.secret


def test_disabling_abandons_what_waits_and_tells_so_once(cast: Cast) -> None:
    endpoint = services.add_endpoint(tenant=cast.acme, url=URL).endpoint
    watching = services.add_endpoint(tenant=cast.acme, url=URL, kinds=["webhook.disabled"]).endpoint
    tell(cast.acme)
    services.disable_endpoint(endpoint, reason="it is gone")
    services.disable_endpoint(endpoint, reason="again")
    delivery = Delivery.objects.get(endpoint=endpoint)
    assert delivery.state == Delivery.State.ABANDONED
    notice = Notice.objects.get(kind="webhook.disabled")
    assert notice.payload == {"endpoint": str(endpoint.uid), "reason": "it is gone"}
    assert Delivery.objects.get(notice=notice).endpoint == watching
    for refused in (lambda: services.replay(delivery), lambda: services.ping(endpoint)):
        with pytest.raises(ValidationError, match=r"disabled \(it is gone\)"):
            refused()
    services.enable_endpoint(endpoint)
    assert services.replay(delivery).state == Delivery.State.PENDING


def test_the_database_refuses_what_makes_no_sense(cast: Cast) -> None:
    endpoint = services.add_endpoint(tenant=cast.acme, url=URL).endpoint
    notice = tell(cast.acme, to=["ada@acme.example"])
    of_webhook = Delivery.objects.filter(endpoint=endpoint)
    of_mail = Delivery.objects.filter(endpoint=None)
    for broken in (
        lambda: of_webhook.update(address="ada@acme.example"),
        lambda: of_webhook.update(endpoint=None),
        lambda: of_mail.update(address=""),
        lambda: of_webhook.update(next_attempt_at=None),
        lambda: of_webhook.update(state="delivered"),
        lambda: of_webhook.update(state="lost", next_attempt_at=None),
        lambda: of_webhook.update(state="delivered", next_attempt_at=None),
        lambda: WebhookEndpoint.objects.update(disabled_at=timezone.now()),
        lambda: WebhookEndpoint.objects.update(failures=1),
        lambda: Delivery.objects.create(tenant=cast.acme, notice=notice, endpoint=endpoint),
        lambda: Delivery.objects.create(
            tenant=cast.acme, notice=notice, address="ada@acme.example"
        ),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            broken()


def test_old_attempts_are_forgotten_and_none_is_changed(cast: Cast) -> None:
    services.add_endpoint(tenant=cast.acme, url=URL)
    tell(cast.acme)
    delivery, now = Delivery.objects.get(), timezone.now()
    for number, days in enumerate((40, 31, 29, 0), start=1):
        DeliveryAttempt(
            tenant=cast.acme,
            delivery=delivery,
            number=number,
            is_success=False,
            ended_at=now - timedelta(days=days),
        ).save()
    with pytest.raises(TypeError, match="append-only"):
        DeliveryAttempt.objects.first().save()  # type: ignore[union-attr]
    assert services.forget_attempts(before=now - timedelta(days=30)) == 2
    assert sorted(DeliveryAttempt.objects.values_list("number", flat=True)) == [3, 4]
    assert Delivery.objects.exists()
