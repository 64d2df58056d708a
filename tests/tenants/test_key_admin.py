"""Operators list, limit, rotate and revoke keys in the admin; a raw key is shown once."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from tenants import services
from tenants.admin.keys import MAX_AT_ONCE
from tenants.admission import keys
from tenants.models import APIKey
from tests.tenants.cast import Cast

LIST = "/admin/tenants/apikey/"
EMPTY = {
    "rate_per_minute": "", "rate_burst": "", "daily_quota": "", "monthly_quota": "",
    "owner": "", "note": "", "allowed_networks": "", "allowed_origins": "",
    "expires_at_0": "", "expires_at_1": "",
}  # fmt: skip


def page_of(key: APIKey, name: str = "change") -> str:
    return f"{LIST}{key.pk}/{name}/"


def form_of(cast: Cast, **fields: Any) -> dict[str, Any]:
    first = {"tenant": cast.acme.pk, "name": "bot", "environment": "live", "scopes": ["ws"]}
    return first | EMPTY | fields


def pressed(action: str, *chosen: APIKey, **fields: Any) -> dict[str, Any]:
    return {"action": action, "_selected_action": [key.pk for key in chosen], **fields}


def raw_keys(content: bytes) -> set[str]:
    return set(re.findall(keys.SCANNER_PATTERN, content.decode()))


def staff(*permissions: str, **options: Any) -> Client:
    """A browser of somebody who may do only that with keys."""
    user = User.objects.create_user("cleo", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[f"{name}_apikey" for name in permissions])
    )
    client = Client(**options)
    client.force_login(user)
    return client


def test_a_key_is_issued_with_all_it_may_be(operator: Client, cast: Cast) -> None:
    form = form_of(
        cast,
        allowed_networks="192.0.2.0/24\r\n\r\n 2001:db8::1 \r\n",
        allowed_origins="https://Desk.example:443",
        rate_per_minute=600,
        rate_burst=20,
        daily_quota=1_000,
        monthly_quota=20_000,
        owner="Ada",
        note="<script>alert(1)</script>",
        environment="test",
    )
    answer = operator.post(f"{LIST}add/", form)
    assert len(raw_keys(answer.content)) == 1
    key = APIKey.objects.get()
    assert key.allowed_networks == ["192.0.2.0/24", "2001:db8::1/128"]
    assert key.allowed_origins == ["https://desk.example"]
    assert (key.rate_per_minute, key.rate_burst) == (600, 20)
    assert (key.daily_quota, key.monthly_quota, key.environment) == (1_000, 20_000, "test")

    page = operator.get(page_of(key)).content.decode()
    assert "192.0.2.0/24\n2001:db8::1/128" in page
    assert "<script>alert" not in page
    listed = operator.get(LIST).content.decode()
    for text in (key.prefix, "Acme", "2 networks, 1 origin, 600/min, 1,000/day, 20,000/month"):
        assert text in listed
    # Saved again as it is shown, it stays what it is.
    same = form | {"allowed_networks": "\r\n".join(key.allowed_networks)}
    assert operator.post(page_of(key), same).status_code == 302
    assert APIKey.objects.values().get() == APIKey.objects.filter(pk=key.pk).values().get()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"allowed_networks": "192.0.2.1/24"}, "the network is 192.0.2.0/24"),
        ({"allowed_networks": "desk.example"}, "is no address and no network"),
        ({"allowed_origins": "desk.example"}, "is no origin"),
        ({"rate_per_minute": "0", "rate_burst": "1"}, "greater than or equal to 1"),
        ({"rate_per_minute": "5"}, "A rate needs both"),
        ({"rate_per_minute": "many", "rate_burst": "1"}, "Enter a whole number"),
        ({"daily_quota": "2", "monthly_quota": "1"}, "cannot be below a day"),
        ({"daily_quota": "-1"}, "greater than or equal to"),
        ({"scopes": ["everything"]}, "not one of the available choices"),
        ({"name": ""}, "This field is required"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "before it was issued"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_issued(
    operator: Client, cast: Cast, fields: dict[str, Any], told: str
) -> None:
    answer = operator.post(f"{LIST}add/", form_of(cast, **fields))
    assert answer.status_code == 200
    assert told in answer.content.decode()
    assert not APIKey.objects.exists()


def test_rotate_asks_and_then_shows_the_successor_once(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    for asked in (
        operator.post(LIST, pressed("rotate", key)),
        operator.get(page_of(key, "rotate")),
    ):
        assert asked.status_code == 200
        assert "Rotate 1 API key?" in asked.content.decode()
        assert "works on for the overlap" in asked.content.decode()
    assert APIKey.objects.count() == 1

    confirmed = pressed("rotate", key, confirmed="yes", amount="90", unit="seconds")
    answer = operator.post(LIST, confirmed)
    (raw,) = raw_keys(answer.content)
    assert "no-store" in answer["Cache-Control"]
    new = APIKey.objects.get(digest=keys.digest(raw))
    key.refresh_from_db()
    assert new.first_key == key
    assert key.rotated_at is not None
    assert key.expires_at == key.rotated_at + timedelta(seconds=90)

    # A double click: the second finds it done, and says so.
    again = operator.post(LIST, confirmed, follow=True)
    assert "has a successor" in again.content.decode()
    assert APIKey.objects.count() == 2
    for page in (LIST, page_of(key), page_of(new), page_of(new, "revoke"), "/admin/"):
        seen = operator.get(page).content.decode()
        assert raw[keys.SHOWN_CHARS :] not in seen
        assert new.digest not in seen
    assert key.prefix in operator.get(page_of(new)).content.decode()
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)  # also the audit trail, the session and the messages
    assert raw[keys.SHOWN_CHARS :] not in dump.getvalue()


def test_what_was_issued_is_shown_whatever_fails_after_it(
    operator: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [services.issue_key(tenant=cast.acme, name=f"bot {n}").key for n in range(3)]
    rotate, calls = services.rotate_key, []

    def falters(key: APIKey, **options: Any) -> services.IssuedKey:
        calls.append(key)
        if len(calls) == 2:
            raise OperationalError(1213, "Deadlock found when trying to get lock")
        return rotate(key, **options)

    monkeypatch.setattr(services, "rotate_key", falters)
    answer = operator.post(
        LIST, pressed("rotate", *chosen, confirmed="yes", amount="0", unit="days")
    )
    assert answer.status_code == 200
    shown = raw_keys(answer.content)
    assert len(shown) == 2
    assert {keys.digest(raw) for raw in shown} == set(
        APIKey.objects.exclude(first_key=None).values_list("digest", flat=True)
    )
    told = answer.content.decode()
    assert f"{calls[1].prefix}… could not be rotated just now" in told
    assert "Deadlock" not in told
    calls[1].refresh_from_db()
    assert calls[1].rotated_at is None


def test_a_second_press_says_what_the_first_one_did(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    asked = operator.get(page_of(key, "rotate")).content.decode()
    assert "onsubmit" in asked
    confirmed = pressed("rotate", key, confirmed="yes", amount="0", unit="days")
    assert len(raw_keys(operator.post(LIST, confirmed).content)) == 1
    again = operator.post(LIST, confirmed)
    assert again.status_code == 200
    assert raw_keys(again.content) == set()
    assert "rotate the successor" in again.content.decode()
    assert APIKey.objects.count() == 2


@pytest.mark.parametrize(
    ("amount", "unit", "told"),
    [
        ("8", "days", "within 0 seconds and 7 days"),
        ("604801", "seconds", "less than or equal to 604800"),
        ("-1", "seconds", "greater than or equal to 0"),
        ("1.5", "days", "Enter a whole number"),
        ("1", "years", "Select a valid choice"),
        ("", "days", "This field is required"),
    ],
)
def test_an_overlap_out_of_bounds_is_asked_again(
    operator: Client, cast: Cast, amount: str, unit: str, told: str
) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    answer = operator.post(LIST, pressed("rotate", key, confirmed="yes", amount=amount, unit=unit))
    assert told in answer.content.decode()
    assert APIKey.objects.count() == 1


def test_revoke_asks_and_then_ends_them(operator: Client, cast: Cast) -> None:
    chosen = [services.issue_key(tenant=cast.acme, name=f"bot {n}").key for n in range(2)]
    for asked in (
        operator.post(LIST, pressed("revoke", *chosen)),
        operator.get(page_of(chosen[0], "revoke")),
    ):
        assert "never again let in" in asked.content.decode()
    assert not APIKey.objects.exclude(revoked_at=None).exists()

    answer = operator.post(LIST, pressed("revoke", *chosen, confirmed="yes"))
    assert answer.status_code == 302
    assert APIKey.objects.exclude(revoked_at=None).count() == 2
    refused = operator.post(
        LIST, pressed("rotate", *chosen, confirmed="yes", amount="0", unit="days"), follow=True
    )
    assert "is revoked: issue a new key" in refused.content.decode()
    assert APIKey.objects.count() == 2


def test_a_hundred_at_once_and_no_more(operator: Client, cast: Cast) -> None:
    first = services.issue_key(tenant=cast.acme, name="bot").key
    APIKey.objects.bulk_create(
        APIKey(tenant=cast.acme, name="bot", prefix="hlr_live_abc", digest=f"{n:064d}")
        for n in range(MAX_AT_ONCE)
    )
    everything = pressed("revoke", first, select_across="1", confirmed="yes")
    told = operator.post(LIST, everything, follow=True).content.decode()
    assert f"at most {MAX_AT_ONCE} at once" in told
    assert not APIKey.objects.exclude(revoked_at=None).exists()


def test_what_was_promised_cannot_be_posted(operator: Client, cast: Cast) -> None:
    """Fields that the page does not offer are not taken from a post."""
    key = services.issue_key(tenant=cast.acme, name="bot").key
    services.rotate_key(key, overlap=timedelta(0))
    key.refresh_from_db()
    before = {name: value for name, value in vars(key).items() if not name.startswith("_")}
    forged = form_of(
        cast,
        tenant=cast.other.pk,
        environment="test",
        digest="f" * 64,
        prefix="hlr_live_fff",
        expires_at_0="2999-01-01",
        expires_at_1="00:00",
        rotated_at="",
        revoked_at_0="",
        first_key="",
        last_used_at="2026-01-01",
        scopes=key.scopes,
    )
    assert operator.post(page_of(key), forged).status_code == 302
    key.refresh_from_db()
    assert {name: value for name, value in vars(key).items() if not name.startswith("_")} == before


def test_two_staff_with_one_page_are_told(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot", scopes=["ws", "info"]).key
    opened = operator.get(page_of(key)).content.decode()
    found = re.search(r'name="opened_as" value="([^"]+)"', opened)
    assert found is not None
    first = form_of(cast, opened_as=found[1], scopes=["info"], allowed_networks="192.0.2.7")
    assert operator.post(page_of(key), first).status_code == 302
    second = form_of(cast, opened_as=found[1], scopes=["ws", "info"], note="called")
    answer = operator.post(page_of(key), second)
    assert answer.status_code == 200
    assert "changed since you opened it" in answer.content.decode()
    key.refresh_from_db()
    assert (key.scopes, key.allowed_networks, key.note) == (["info"], ["192.0.2.7/32"], "")


def test_what_comes_between_the_form_and_the_write_is_told(
    operator: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    update = services.update_key

    def late(mine: APIKey) -> APIKey:
        APIKey.objects.filter(pk=key.pk).update(scopes=["info"])
        return update(mine)

    monkeypatch.setattr(services, "update_key", late)
    answer = operator.post(page_of(key), form_of(cast, note="called"), follow=True)
    assert "changed since you opened it" in answer.content.decode()
    key.refresh_from_db()
    assert key.note == ""


def test_who_may_only_look_changes_nothing(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    viewer = staff("view")
    assert viewer.get(LIST).status_code == viewer.get(page_of(key)).status_code == 200
    rotation = pressed("rotate", key, confirmed="yes", amount="0", unit="days")
    for form in (rotation, pressed("revoke", key, confirmed="yes")):
        viewer.post(LIST, form)
    assert viewer.post(page_of(key), form_of(cast, name="renamed")).status_code == 403
    assert viewer.post(f"{LIST}add/", form_of(cast)).status_code == 403
    for name in ("rotate", "revoke"):
        assert viewer.get(page_of(key, name)).status_code == 403
    key.refresh_from_db()
    assert (key.name, key.rotated_at, key.revoked_at) == ("bot", None, None)
    assert APIKey.objects.count() == 1


def test_who_may_change_but_not_issue_revokes_and_does_not_rotate(
    operator: Client, cast: Cast
) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    support = staff("view", "change")
    support.post(LIST, pressed("rotate", key, confirmed="yes", amount="0", unit="days"))
    assert APIKey.objects.count() == 1
    assert support.get(page_of(key, "rotate")).status_code == 403
    support.post(LIST, pressed("revoke", key, confirmed="yes"))
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_a_post_from_another_site_is_refused(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    lured = staff("view", "change", "add", enforce_csrf_checks=True)
    rotation = pressed("rotate", key, confirmed="yes", amount="0", unit="days")
    for path, form in (
        (LIST, pressed("revoke", key, confirmed="yes")),
        (LIST, rotation),
        (f"{LIST}add/", form_of(cast)),
        (page_of(key), form_of(cast, name="renamed")),
        (page_of(key, "rotate"), rotation),
    ):
        assert lured.post(path, form).status_code == 403
    # What a link or an image can do: ask, and be asked back.
    for name in ("rotate", "revoke"):
        assert lured.get(page_of(key, name)).status_code == 200
    anonymous = Client()
    assert anonymous.post(LIST, pressed("revoke", key, confirmed="yes")).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.rotated_at, key.revoked_at) == ("bot", None, None)
    assert APIKey.objects.count() == 1


def test_the_list_is_filtered_and_searched(
    operator: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    made = {
        name: services.issue_key(tenant=tenant, name=name, owner=f"owner of {name}").key
        for name, tenant in (
            ("fresh", cast.acme), ("revoked", cast.acme), ("rotated", cast.acme),
            ("expired", cast.acme), ("idle", cast.acme), ("unpaid", cast.other),
        )
    }  # fmt: skip
    services.revoke_key(made["revoked"])
    services.rotate_key(made["rotated"], overlap=timedelta(days=1))
    APIKey.objects.filter(pk=made["expired"].pk).update(created_at=now, expires_at=now)
    services.note_use([made["idle"].pk], at=now - timedelta(days=31))
    services.note_use([made["fresh"].pk], at=now)
    services.suspend_tenant(cast.other, reason="unpaid")
    every = set(made) | {"rotated"}
    for query, found in {
        "": every,
        "?state=usable": {"fresh", "rotated", "idle"},
        "?state=ending": {"rotated"},
        "?state=rotated": {"rotated"},
        "?state=expired": {"expired"},
        "?state=revoked": {"revoked"},
        "?state=suspended": {"unpaid"},
        "?used=1": {"fresh"},
        "?used=30": {"idle"},
        "?used=never": every - {"fresh", "idle"},
        "?q=cleo-and-sons": {"unpaid"},
        "?q=owner+of+idle": {"idle"},
        f"?q={made['fresh'].prefix}": {"fresh"},
        "?environment__exact=test": set(),
    }.items():
        with django_assert_max_num_queries(12):
            answer = operator.get(LIST + query)
        assert {key.name for key in answer.context["cl"].queryset} == found, query
