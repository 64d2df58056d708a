"""Guard rails of keys: kept, inherited by successors, and known to the doors."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from tenants import guarding, selectors, services
from tenants.admission.rails import Rails
from tenants.admission.store import Entry, decode_entry, encode_entry
from tenants.models import ExchangeRails
from tests.tenants.cast import Cast


def known(digest: str) -> Rails | None:
    """What a door knows, also after the way through Redis."""
    principal = selectors.principals_by_digest([digest])[digest]
    entry = decode_entry(encode_entry(Entry(principal, 1)))
    assert entry is not None
    assert entry.principal == principal
    return principal.rails


def test_what_is_set_is_known_to_the_doors_and_shared_by_rotations(cast: Cast) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    assert known(key.digest) is None
    guarding.set_rails(
        key, signers=[" 0x" + "AB" * 20, "0x" + "ab" * 20], max_order_usd=Decimal("5000.50")
    )
    expected = Rails(signers=frozenset({"0x" + "ab" * 20}), max_order_usd=Decimal("5000.50"))
    assert known(key.digest) == expected
    successor = services.rotate_key(key, overlap=timedelta(days=1)).key
    assert known(successor.digest) == expected
    guarding.kill(successor)
    for digest in (key.digest, successor.digest):
        rails = known(digest)
        assert rails is not None
        assert rails.is_killed
        assert rails.max_order_usd == Decimal("5000.50")
    guarding.revive(key)
    assert known(successor.digest) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"signers": ["0x12"]},
        {"signers": "0x" + "ab" * 20},
        {"signers": [["x"]]},
        {"kinds": ["or der"]},
        {"coins": [""]},
        {"coins": ["BTC"] * 3 + [f"C{n}" for n in range(201)]},
        {"max_order_usd": Decimal("-1")},
        {"max_minute_usd": Decimal("0.001")},
        {"color": "red"},
    ],
)
def test_nonsense_is_refused_and_changes_nothing(cast: Cast, wrong: dict[str, Any]) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    guarding.set_rails(key, coins=["BTC"])
    with pytest.raises(ValidationError):
        guarding.set_rails(key, **wrong)
    assert known(key.digest) == Rails(coins=frozenset({"BTC"}))


def test_a_row_of_nonsense_stops_its_own_key_alone(cast: Cast) -> None:
    broken, good = (services.issue_key(tenant=cast.acme, name="bot").key for _ in range(2))
    for key in (broken, good):
        guarding.set_rails(key, coins=["BTC"])
    ExchangeRails.objects.filter(key=broken).update(coins={"a": 1})
    assert known(broken.digest) == Rails(is_killed=True)
    assert known(good.digest) == Rails(coins=frozenset({"BTC"}))


def test_a_change_is_announced_for_all_rotations(
    cast: Cast, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key
    successor = services.rotate_key(key, overlap=timedelta(days=1)).key
    announced: list[tuple[str, ...]] = []
    monkeypatch.setattr("tenants.admission.changes.announce", announced.append)
    with django_capture_on_commit_callbacks(execute=True):
        guarding.kill(key)
    assert {frozenset(digests) for digests in announced} == {
        frozenset({key.digest, successor.digest})
    }
