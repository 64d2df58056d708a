"""Operators add endpoints, see each delivery, ping and replay; a secret is shown once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants.models import Delivery, Notice, WebhookEndpoint
from tenants.notices import mail, services, webhooks
from tests.tenants.cast import Cast
from tests.tenants.notices.receiver import Receiver

ENDPOINTS, DELIVERIES = "/admin/tenants/webhookendpoint/", "/admin/tenants/delivery/"
NOTICES = "/admin/tenants/notice/"
URL = "https://hooks.example/relay"
GAP = {"stream": "trades", "from": 7, "to": 9, "reason": "<b>gone</b>"}


def secrets(content: bytes) -> set[str]:
    return set(re.findall(r"whsec_[\w-]{43}", content.decode()))


def pressed(action: str, *chosen: Any, **fields: Any) -> dict[str, Any]:
    return {"action": action, "_selected_action": [row.pk for row in chosen], **fields}


def tell(cast: Cast, fact: str, *to: str) -> None:
    services.notify(tenant=cast.acme, kind="gap.recorded", payload=GAP, dedupe=fact, to=to)


def staff(*codenames: str) -> Client:
    """A browser of somebody who may do only that."""
    user = User.objects.create_user("ben", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def test_an_endpoint_is_added_and_its_secret_shown_once(operator: Client, cast: Cast) -> None:
    form = {"tenant": cast.acme.pk, "url": URL, "kinds": ["gap.recorded", "invoice.sent"]}
    answer = operator.post(f"{ENDPOINTS}add/", form)
    (secret,) = secrets(answer.content)
    assert "no-store" in answer["Cache-Control"]
    endpoint = WebhookEndpoint.objects.get()
    assert [one.text for one in webhooks.secrets_of(endpoint)] == [secret]
    page = f"{ENDPOINTS}{endpoint.pk}/change/"
    for shown in (operator.get(page), operator.get(ENDPOINTS), operator.get("/admin/")):
        assert shown.status_code == 200
        assert not secrets(shown.content)
    again = operator.post(page, {"url": URL + "/2", "kinds": []})
    assert again.status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.kinds, endpoint.tenant) == (URL + "/2", [], cast.acme)
    assert [one.text for one in webhooks.secrets_of(endpoint)] == [secret]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"url": "http://hooks.example/"}, "the scheme must be https"),
        ({"url": "https://169.254.169.254/"}, "link-local"),
        ({"url": ""}, "This field is required"),
        ({"url": "https://x/" + "y" * 600}, "at most 500"),
        ({"kinds": ["ping"]}, "not one of the available choices"),
        ({"tenant": ""}, "This field is required"),
    ],
)
def test_what_is_wrong_is_said(
    operator: Client, cast: Cast, fields: dict[str, Any], told: str
) -> None:
    form = {"tenant": cast.acme.pk, "url": URL, "kinds": []} | fields
    answer = operator.post(f"{ENDPOINTS}add/", form)
    assert answer.status_code == 200
    assert told in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_the_limit_is_said_too(operator: Client, cast: Cast) -> None:
    for _ in range(services.MAX_ENDPOINTS):
        services.add_endpoint(tenant=cast.acme, url=URL)
    form = {"tenant": cast.acme.pk, "url": URL, "kinds": []}
    answer = operator.post(f"{ENDPOINTS}add/", form, follow=True)
    assert "at most 20 can be enabled" in answer.content.decode()
    assert WebhookEndpoint.objects.count() == services.MAX_ENDPOINTS


def test_rotate_asks_how_long_and_shows_the_new_one_once(operator: Client, cast: Cast) -> None:
    old = services.add_endpoint(tenant=cast.acme, url=URL)
    for asked in (
        operator.get(f"{ENDPOINTS}{old.endpoint.pk}/rotate", follow=True),
        operator.post(ENDPOINTS, pressed("rotate_secret", old.endpoint)),
        operator.post(
            ENDPOINTS, pressed("rotate_secret", old.endpoint, confirmed="yes", hours=169)
        ),
    ):
        assert "Overlap in hours" in asked.content.decode()
        assert not secrets(asked.content)
    done = operator.post(
        ENDPOINTS, pressed("rotate_secret", old.endpoint, confirmed="yes", hours=2)
    )
    (new,) = secrets(done.content)
    endpoint = WebhookEndpoint.objects.get()
    assert [one.text for one in webhooks.secrets_of(endpoint)] == [new, old.secret]


def test_ping_and_replay(operator: Client, cast: Cast, receiver: Receiver) -> None:
    endpoint = services.add_endpoint(tenant=cast.acme, url=receiver.url).endpoint
    asked = operator.get(f"{ENDPOINTS}{endpoint.pk}/ping", follow=True)
    assert "sent a test" in asked.content.decode()
    assert not Delivery.objects.exists()  # a link changes nothing
    assert operator.post(ENDPOINTS, pressed("ping", endpoint)).status_code == 302
    assert webhooks.send_due() == 1
    delivery = Delivery.objects.get()
    listed = operator.get(DELIVERIES).content.decode()
    for text in ("ping", receiver.url, "delivered", "200"):
        assert text in listed
    page = operator.get(f"{DELIVERIES}{delivery.pk}/change/").content.decode()
    assert "attempt 1" in page
    replaying = operator.get(f"{DELIVERIES}{delivery.pk}/replay", follow=True)
    assert "with the same id" in replaying.content.decode()
    operator.post(DELIVERIES, pressed("replay", delivery))
    assert webhooks.send_due() == 1
    assert len(receiver.received) == 2

    operator.post(ENDPOINTS, pressed("disable", endpoint))
    refused = operator.post(DELIVERIES, pressed("replay", delivery), follow=True)
    assert "is disabled (by an operator)" in refused.content.decode()
    operator.post(ENDPOINTS, pressed("enable", endpoint))
    assert WebhookEndpoint.objects.get().is_enabled


def test_filters_find_what_they_say(operator: Client, cast: Cast) -> None:
    endpoint = services.add_endpoint(tenant=cast.acme, url=URL).endpoint
    tell(cast, "gap:1", "ada@acme.example")
    mail.send_due()

    def count(query: str, where: str = DELIVERIES) -> int:
        answer = operator.get(f"{where}?{query}")
        assert answer.status_code == 200
        return int(answer.context["cl"].result_count)

    assert count("") == 2
    assert count("way=mail") == count("way=webhook") == 1
    assert count("state__exact=delivered") == count("state__exact=pending") == 1
    assert (count("kind=gap.recorded"), count("kind=ping")) == (2, 0)
    assert count(f"endpoint__id__exact={endpoint.pk}") == 1
    assert count("q=ada@acme.example") == count("q=hooks.example") == 1
    assert count("q=acme") == 2
    assert (count("state=enabled", ENDPOINTS), count("state=failing", ENDPOINTS)) == (1, 0)
    assert count("state=disabled", ENDPOINTS) == 0
    assert (count("kind=gap.recorded", NOTICES), count("kind=ping", NOTICES)) == (1, 0)
    notice = Notice.objects.get()
    page = operator.get(f"{NOTICES}{notice.pk}/change/").content.decode()
    assert "<b>gone" not in page


@pytest.mark.parametrize("where", [ENDPOINTS, DELIVERIES, NOTICES])
def test_a_page_takes_as_many_queries_with_many_rows(
    operator: Client, cast: Cast, where: str
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert operator.get(where).status_code == 200
        return len(captured)

    def grow(facts: range) -> None:
        for n in facts:
            tenant = (cast.acme, cast.other)[n % 2]
            services.add_endpoint(tenant=tenant, url=f"{URL}/{n}")
            tell(cast, f"gap:{n}", "ada@acme.example")

    grow(range(2))
    few = queries()
    grow(range(2, 14))
    assert queries() == few


def test_who_may_only_look_does_nothing_and_a_stranger_sees_nothing(cast: Cast) -> None:
    endpoint = services.add_endpoint(tenant=cast.acme, url=URL).endpoint
    tell(cast, "gap:1")
    delivery = Delivery.objects.get()
    before = list(Delivery.objects.values()), list(WebhookEndpoint.objects.values())
    looking = staff("view_webhookendpoint", "view_delivery", "view_notice")
    for where, rows, actions in (
        (ENDPOINTS, endpoint, ("ping", "disable", "enable", "rotate_secret")),
        (DELIVERIES, delivery, ("replay",)),
    ):
        assert looking.get(where).status_code == 200
        for action in actions:
            fields = {"confirmed": "yes", "hours": 0}
            answer = looking.post(where, pressed(action, rows, **fields), follow=True)
            assert not secrets(answer.content)
    for path in ("ping", "rotate"):
        assert looking.get(f"{ENDPOINTS}{endpoint.pk}/{path}/").status_code == 403
    assert looking.get(f"{DELIVERIES}{delivery.pk}/replay/").status_code == 403
    for where in (ENDPOINTS, DELIVERIES, NOTICES):
        assert looking.get(f"{where}add/").status_code == 403
        assert Client().get(where).status_code == 302
    assert (list(Delivery.objects.values()), list(WebhookEndpoint.objects.values())) == before
