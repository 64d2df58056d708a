"""A key is shown once, stored as a digest, and can be told from a mistyped one without a server."""

from __future__ import annotations

import io
import re
import secrets
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from tenants import services
from tenants.admission import keys
from tenants.models import APIKey
from tests.tenants.cast import Cast


def test_the_raw_key_is_in_the_answer_and_nowhere_else(cast: Cast) -> None:
    issued = services.issue_key(tenant=cast.acme, name="market maker")

    assert keys.is_well_formed(issued.raw)
    assert issued.key.prefix == issued.raw[:12]
    assert issued.key.digest == keys.digest(issued.raw)
    assert issued.raw not in repr(issued)
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    assert issued.key.digest in dump.getvalue()
    assert issued.raw[12:] not in dump.getvalue()


def test_a_key_belongs_to_its_tenant(cast: Cast) -> None:
    issued = services.issue_key(tenant=cast.acme, name="bot")

    assert list(APIKey.objects.for_tenant(cast.acme)) == [issued.key]
    assert not APIKey.objects.for_tenant(cast.other).exists()


def test_the_pepper_makes_the_stored_digest_useless_alone(cast: Cast, settings: Any) -> None:
    settings.RELAY_KEY_PEPPER = "a pepper"
    issued = services.issue_key(tenant=cast.acme, name="bot")

    assert issued.key.digest == keys.digest(issued.raw, "a pepper") != keys.digest(issued.raw)


@pytest.mark.parametrize("scopes", [[], ["ws", "everything"], ["ws", "ws"]])
def test_scopes_must_be_known_and_some(cast: Cast, scopes: list[str]) -> None:
    with pytest.raises(ValidationError):
        services.issue_key(tenant=cast.acme, name="bot", scopes=scopes)


def test_rotation_never_makes_a_key_live_longer(cast: Cast) -> None:
    soon = timezone.now() + timedelta(minutes=5)
    old = services.issue_key(tenant=cast.acme, name="bot", expires_at=soon)
    services.rotate_key(old.key, overlap=timedelta(days=1))
    old.key.refresh_from_db()
    assert old.key.expires_at == soon


@pytest.mark.parametrize("environment", list(keys.Environment))
def test_the_scanner_pattern_finds_every_key(environment: keys.Environment) -> None:
    pattern = re.compile(keys.SCANNER_PATTERN)
    for _ in range(10_000):
        raw = keys.generate(environment)
        assert pattern.search(f'export KEY="{raw}" # prod')
        assert keys.is_well_formed(raw)


def test_no_random_text_passes_the_checksum() -> None:
    for _ in range(10_000):
        body = "".join(secrets.choice(keys.BASE62) for _ in range(38))
        assert not keys.is_well_formed(f"hlr_live_{body}")


@given(st.data())
def test_one_wrong_character_is_noticed(data: st.DataObject) -> None:
    raw = keys.generate(keys.Environment.TEST)
    place = data.draw(st.integers(9, len(raw) - 1))
    wrong = data.draw(st.sampled_from([c for c in keys.BASE62 if c != raw[place]]))
    assert not keys.is_well_formed(raw[:place] + wrong + raw[place + 1 :])


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert not keys.is_well_formed(text)
    assert len(keys.digest(text)) == len(keys.digest(text, "pepper")) == 64


def test_the_admin_shows_the_key_once(operator: Client, cast: Cast) -> None:
    form = {"tenant": cast.acme.pk, "name": "bot", "environment": "live", "scopes": ["ws"]}
    answer = operator.post("/admin/tenants/apikey/add/", form)

    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    (raw,) = set(re.findall(keys.SCANNER_PATTERN, answer.content.decode()))
    key = APIKey.objects.get()
    assert key.digest == keys.digest(raw)
    for page in ("/admin/tenants/apikey/", f"/admin/tenants/apikey/{key.pk}/change/", "/admin/"):
        seen = operator.get(page).content.decode()
        assert raw not in seen
        assert key.digest not in seen
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)  # also the audit trail and the session
    assert raw[12:] not in dump.getvalue()


def test_the_admin_changes_only_what_may_change(operator: Client, cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    form = {
        "tenant": cast.other.pk,
        "name": "renamed",
        "environment": "test",
        "scopes": ["info"],
        "expires_at_0": "",
        "expires_at_1": "",
    }
    assert operator.post(f"/admin/tenants/apikey/{key.pk}/change/", form).status_code == 302
    key.refresh_from_db()
    assert (key.tenant, key.name, key.environment) == (cast.acme, "renamed", "live")
    assert key.scopes == ["info"]


def test_a_refused_form_issues_nothing(operator: Client, cast: Cast) -> None:
    form = {"tenant": cast.acme.pk, "name": "bot", "environment": "live", "scopes": []}
    assert operator.post("/admin/tenants/apikey/add/", form).status_code == 200
    assert not APIKey.objects.exists()


def test_a_tenant_has_so_many_keys_that_work(cast: Cast, settings: Any) -> None:
    settings.RELAY_MAX_KEYS = 3
    now = timezone.now()
    first, *_ = [services.issue_key(tenant=cast.acme, name=f"bot {n}").key for n in range(3)]
    with pytest.raises(ValidationError, match="at most 3 keys"):
        services.issue_key(tenant=cast.acme, name="one more")
    services.issue_key(tenant=cast.other, name="theirs")
    # A stolen key can be rotated all the same, and its old one takes no place.
    successor = services.rotate_key(first, overlap=timedelta(hours=1)).key
    with pytest.raises(ValidationError, match="at most 3 keys"):
        services.issue_key(tenant=cast.acme, name="one more")
    services.revoke_key(successor)
    soon = services.issue_key(tenant=cast.acme, name="in place of it").key
    # What has ended takes none, and does not come back past the others.
    APIKey.objects.filter(pk=soon.pk).update(
        created_at=now - timedelta(days=2), expires_at=now - timedelta(days=1)
    )
    services.issue_key(tenant=cast.acme, name="and in place of that")
    soon.refresh_from_db()
    soon.note = "still over"
    services.update_key(soon)
    soon.expires_at = None
    with pytest.raises(ValidationError, match="at most 3 keys"):
        services.update_key(soon)


def test_rotations_are_no_way_around(cast: Cast, settings: Any) -> None:
    settings.RELAY_MAX_KEYS = 2
    key = services.issue_key(tenant=cast.acme, name="bot").key
    for _ in range(3):
        key = services.rotate_key(key, overlap=timedelta(days=7)).key
    with pytest.raises(ValidationError, match="At most 4 keys"):
        services.rotate_key(key, overlap=timedelta(days=7))
    key.refresh_from_db()
    assert (key.rotated_at, key.expires_at) == (None, None)
    # Without an overlap there is none more: a stolen key is replaced at once.
    services.rotate_key(key, overlap=timedelta(0))


@pytest.mark.django_db(transaction=True)
def test_the_last_place_is_taken_once(committed_cast: Cast, settings: Any) -> None:
    """By four who ask at the same time, while another key is rotated and changed."""
    settings.RELAY_MAX_KEYS = 3
    acme = committed_cast.acme
    first, second = (services.issue_key(tenant=acme, name=name).key for name in ("a", "b"))
    gate, refused = threading.Barrier(6), []

    def at_once(work: Callable[[], object]) -> None:
        try:
            gate.wait(10)
            work()
        except ValidationError as error:
            refused.append(error.messages)
        finally:
            connection.close()

    def issue() -> object:
        return services.issue_key(tenant=acme, name="last")

    jobs = [issue] * 4 + [
        lambda: services.rotate_key(first, overlap=timedelta(hours=1)),
        lambda: services.update_key(second),
    ]
    threads = [threading.Thread(target=at_once, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 3
    assert APIKey.objects.filter(name="last").count() == 1
    assert APIKey.objects.for_tenant(acme).filter(rotated_at=None).count() == 3
