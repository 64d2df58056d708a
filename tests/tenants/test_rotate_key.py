"""A rotated key works for the overlap its owner chose, to the second, and its successor at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants import selectors, services
from tenants.admission.access import parse_network
from tenants.admission.limiter import Rate
from tenants.models import KEY_RIGHTS, MAX_LISTED, MAX_PER_MINUTE, APIKey, Notice
from tests.tenants.cast import Cast

RIGHTS: dict[str, Any] = {
    "name": "market maker",
    "scopes": ["ws"],
    "allowed_networks": ["192.0.2.0/24", "2001:db8::/32"],
    "allowed_origins": ["https://desk.example"],
    "rate_per_minute": 600,
    "rate_burst": 20,
    "daily_quota": 1_000_000,
    "monthly_quota": 20_000_000,
    "owner": "Ada",
    "note": "the old desk",
    "expires_at": None,
}
SECOND = timedelta(seconds=1)


def issue(cast: Cast, **rights: Any) -> services.IssuedKey:
    return services.issue_key(tenant=cast.acme, **(RIGHTS | rights))


@pytest.mark.parametrize("overlap", [timedelta(0), SECOND, timedelta(days=7)])
def test_the_old_key_works_to_the_end_of_the_overlap_and_not_longer(
    cast: Cast, overlap: timedelta
) -> None:
    old = issue(cast)
    now = timezone.now()
    new = services.rotate_key(old.key, overlap=overlap, now=now)

    old.key.refresh_from_db()
    assert (old.key.expires_at, old.key.rotated_at) == (now + overlap, now)
    digests = [old.key.digest, new.key.digest]
    ends = now + overlap
    before = selectors.principals_by_digest(digests, now=ends - timedelta(microseconds=1))
    assert set(before) == set(digests)
    assert set(selectors.principals_by_digest(digests, now=ends)) == {new.key.digest}


def test_the_tenant_is_told_until_when_the_old_key_works_and_no_key(cast: Cast) -> None:
    old = issue(cast)
    now = timezone.now()
    new = services.rotate_key(old.key, overlap=timedelta(hours=1), now=now)
    (notice,) = Notice.objects.filter(tenant=cast.acme, kind="key.rotated")
    ends = (now + timedelta(hours=1)).isoformat()
    assert notice.payload == {"prefix": old.key.prefix, "ends_at": ends}
    told = str(notice.payload)
    assert old.raw not in told
    assert new.raw not in told


@pytest.mark.parametrize("overlap", [-SECOND, timedelta(days=7, microseconds=1)])
def test_no_other_overlap_is_taken(cast: Cast, overlap: timedelta) -> None:
    old = issue(cast)
    with pytest.raises(ValidationError, match="within 0 seconds and 7 days"):
        services.rotate_key(old.key, overlap=overlap)
    assert APIKey.objects.count() == 1


def test_a_successor_has_all_its_rights_and_is_of_the_family(cast: Cast) -> None:
    old = issue(cast, expires_at=timezone.now() + timedelta(days=90))
    new = services.rotate_key(old.key, overlap=SECOND)
    newest = services.rotate_key(new.key, overlap=SECOND)

    for key in (new.key, newest.key):
        key.refresh_from_db()
        rights = {name: getattr(key, name) for name in KEY_RIGHTS}
        assert rights["expires_at"] is not None
    assert {n: v for n, v in rights.items() if n != "expires_at"} == {
        n: v for n, v in RIGHTS.items() if n != "expires_at"
    }
    assert {key.family_id for key in APIKey.objects.all()} == {old.key.pk}
    found = selectors.principals_by_digest([newest.key.digest])[newest.key.digest]
    assert found.family_id == old.key.pk
    assert found.networks == tuple(map(parse_network, RIGHTS["allowed_networks"]))
    assert found.origins == {"https://desk.example"}
    assert found.rate == Rate(600, 20)


def test_what_has_ended_or_has_a_successor_is_not_rotated(cast: Cast) -> None:
    revoked, expired, rotated = issue(cast).key, issue(cast).key, issue(cast).key
    services.revoke_key(revoked)
    APIKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    services.rotate_key(rotated, overlap=timedelta(days=1))
    for key, why in ((revoked, "revoked"), (expired, "expired"), (rotated, "has a successor")):
        with pytest.raises(ValidationError, match=why):
            services.rotate_key(key, overlap=SECOND)
    assert APIKey.objects.count() == 4


def test_a_page_opened_before_the_rotation_does_not_undo_it(cast: Cast) -> None:
    old = issue(cast).key
    stale = APIKey.objects.get(pk=old.pk)
    services.rotate_key(old, overlap=SECOND)
    stale.name = "renamed"
    services.update_key(stale)
    old.refresh_from_db()
    assert old.name == "renamed"
    assert old.rotated_at is not None
    assert old.expires_at == old.rotated_at + SECOND


@pytest.mark.parametrize(
    "narrower",
    [
        {"allowed_networks": ["192.0.2.7/32"]},
        {"scopes": ["info"]},
        {"expires_at": timezone.now() + timedelta(days=1)},
        {"rate_per_minute": 1, "rate_burst": 1},
    ],
)
def test_an_older_copy_does_not_undo_a_restriction(cast: Cast, narrower: dict[str, Any]) -> None:
    key = issue(cast, allowed_networks=["192.0.2.0/24"], scopes=["ws", "info"]).key
    first, second = APIKey.objects.get(pk=key.pk), APIKey.objects.get(pk=key.pk)
    for right, value in narrower.items():
        setattr(first, right, value)
    services.update_key(first)
    second.note = "called"
    with pytest.raises(ValidationError, match="changed since you opened it"):
        services.update_key(second)
    second.refresh_from_db()
    assert {right: getattr(second, right) for right in narrower} == narrower
    second.note = "called"
    services.update_key(second)
    services.update_key(second)
    key.refresh_from_db()
    assert key.note == "called"
    assert {right: getattr(key, right) for right in narrower} == narrower


def test_lists_are_kept_as_the_door_compares_them(cast: Cast) -> None:
    key = issue(
        cast,
        allowed_networks=["192.0.2.7", " 192.0.2.7/32", "2001:DB8:0::/32"],
        allowed_origins=["HTTPS://Desk.example:443", "https://desk.example"],
    ).key
    assert key.allowed_networks == ["192.0.2.7/32", "2001:db8::/32"]
    assert key.allowed_origins == ["https://desk.example"]


@pytest.mark.parametrize(
    ("rights", "field"),
    [
        ({"allowed_networks": ["192.0.2.1/24"]}, "allowed_networks"),
        ({"allowed_networks": ["desk.example"]}, "allowed_networks"),
        ({"allowed_networks": [3_221_226_000]}, "allowed_networks"),
        ({"allowed_networks": "192.0.2.0/24"}, "allowed_networks"),
        ({"allowed_networks": [f"10.0.0.{n}" for n in range(MAX_LISTED + 1)]}, "allowed_networks"),
        ({"allowed_origins": ["*"]}, "allowed_origins"),
        ({"rate_per_minute": 0}, "rate_per_minute"),
        ({"rate_per_minute": MAX_PER_MINUTE + 1}, "rate_per_minute"),
        ({"rate_burst": None}, "__all__"),
        ({"rate_per_minute": None}, "__all__"),
        ({"daily_quota": 0}, "daily_quota"),
        ({"daily_quota": 2, "monthly_quota": 1}, "__all__"),
        ({"name": ""}, "name"),
        ({"note": "x" * 501}, "note"),
    ],
)
def test_what_no_key_can_have_is_refused_by_field(
    cast: Cast, rights: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        issue(cast, **rights)
    assert field in refused.value.message_dict
    assert not APIKey.objects.exists()


@pytest.mark.parametrize(
    "rights",
    [
        {"allowed_networks": [f"10.0.0.{n}" for n in range(MAX_LISTED)]},
        {"rate_per_minute": 1, "rate_burst": MAX_PER_MINUTE},
        {"rate_per_minute": None, "rate_burst": None},
        {"daily_quota": 1, "monthly_quota": 1},
        {"daily_quota": None, "monthly_quota": 1},
        {"daily_quota": 2, "monthly_quota": None},
    ],
)
def test_the_last_that_fits_is_taken(cast: Cast, rights: dict[str, Any]) -> None:
    issue(cast, **rights).key.full_clean()


@pytest.mark.parametrize(
    "row",
    [
        {"rate_burst": None},
        {"rate_per_minute": 0},
        {"daily_quota": 0},
        {"monthly_quota": 0, "daily_quota": None},
        {"monthly_quota": 999_999},
        {"rotated_at": timezone.now()},
    ],
)
def test_the_database_refuses_it_as_well(cast: Cast, row: dict[str, Any]) -> None:
    key = issue(cast).key
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.filter(pk=key.pk).update(**row)
