"""A dashboard token opens the tenant's feeds for its log-in, and nothing when that ends."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from tenants import dashboard_tokens, services
from tenants.admission import keys
from tenants.admission.access import Caller, refusal
from tenants.admission.errors import OriginNotAllowed, ScopeMissing
from tenants.admission.presented import presented_key
from tenants.admission.principal import Limits, Principal
from tenants.admission.quotas import Occupancy
from tenants.dashboard_tokens import LIFE, MAX_CONNECTIONS, MAX_TOKENS, issue_token, narrowed
from tenants.models import APIKey, DashboardToken, Membership
from tenants.people import services as people
from tenants.people.roles import Role
from tenants.selectors import principals_by_digest
from tests.tenants.cast import Cast
from tests.tenants.people import make_member, owner_of, signed_in

ORIGIN = "https://relay.example"
pytestmark = pytest.mark.django_db


def _open(member: Membership) -> tuple[Client, str]:
    """A browser, and a token of its log-in."""
    browser = signed_in(member.user)
    return browser, _token(member, browser)


def _token(member: Membership, browser: Client) -> str:
    key = browser.session.session_key
    assert key
    return issue_token(by=member, session_key=key, origin=ORIGIN).raw


def _principal(raw: str, *, at: datetime | None = None) -> Principal | None:
    digest = keys.digest(raw)
    return principals_by_digest([digest], now=at).get(digest)


def test_it_is_its_tenant_and_reads_only(cast: Cast) -> None:
    _, raw = _open(owner_of(cast.acme))
    found = _principal(raw)
    assert found is not None
    assert (found.tenant_slug, found.scopes) == ("acme", {"ws", "info"})
    assert found.free_for == "dashboard"
    assert found.allowances == ()
    assert keys.is_well_formed(raw)
    assert found.key_prefix == raw[: len(found.key_prefix)]


def test_each_tenant_has_its_own(cast: Cast) -> None:
    ada, cleo = owner_of(cast.acme), owner_of(cast.other, "cleo")
    ours, theirs = (_principal(_open(member)[1]) for member in (ada, cleo))
    assert ours is not None
    assert theirs is not None
    assert (ours.tenant_id, theirs.tenant_id) == (cast.acme.pk, cast.other.pk)
    assert ours.key_id != theirs.key_id


@given(st.integers(min_value=0, max_value=45), st.sampled_from(keys.BASE62))
def test_a_changed_token_is_another(at: int, character: str) -> None:
    """Whichever character: it is not well formed, or its digest is not the token's."""
    raw = keys.generate(keys.Environment.WEB)
    changed = raw[:at] + character + raw[at + 1 :]
    assert changed == raw or not keys.is_well_formed(changed)
    assert changed == raw or keys.digest(changed) != keys.digest(raw)


def test_it_lives_fifteen_minutes(cast: Cast) -> None:
    _, raw = _open(owner_of(cast.acme))
    (row,) = DashboardToken.objects.all()
    assert row.expires_at - row.created_at == LIFE == timedelta(minutes=15)
    assert _principal(raw, at=row.expires_at - timedelta(seconds=1)) is not None
    assert _principal(raw, at=row.expires_at) is None


def test_it_ends_with_its_log_in(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    browser, raw = _open(ada)
    other, kept = _open(ada)
    browser.post("/accounts/logout/")
    assert _principal(raw) is None
    assert _principal(kept) is not None
    other.session.flush()  # as when it runs out
    assert _principal(kept) is None


def test_it_ends_with_the_password(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    _, raw = _open(ada)
    ada.user.set_password("another and longer one")
    ada.user.save()
    assert _principal(raw) is None


def test_it_ends_with_the_membership(cast: Cast) -> None:
    ada, ben = owner_of(cast.acme), make_member(cast.acme, "ben", Role.VIEWER)
    browser, raw = _open(ben)
    assert _principal(raw) is not None
    people.remove_member(ben, by=ada)
    assert _principal(raw) is None
    with pytest.raises(PermissionDenied):
        _token(ben, browser)


def test_it_ends_with_the_person_and_rests_with_the_tenant(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    _, raw = _open(ada)
    services.suspend_tenant(cast.acme, reason="unpaid")
    assert _principal(raw) is None
    services.resume_tenant(cast.acme)
    assert _principal(raw) is not None
    User.objects.filter(pk=ada.user.pk).update(is_active=False)
    assert _principal(raw) is None


def test_the_log_in_of_somebody_else_makes_none(cast: Cast) -> None:
    """A token names a member and a log-in; where these are two people it opens nothing."""
    ada, ben = owner_of(cast.acme), make_member(cast.acme, "ben", Role.VIEWER)
    assert _principal(_token(ada, signed_in(ben.user))) is None
    with pytest.raises(PermissionDenied):
        issue_token(by=ada, session_key="", origin=ORIGIN)


def test_it_is_of_the_pages_origin(cast: Cast) -> None:
    _, raw = _open(owner_of(cast.acme))
    found = _principal(raw)
    assert found is not None
    now = datetime.now(UTC)
    home = Caller(address="192.0.2.7", origin=ORIGIN)
    assert refusal(found, home, scope="ws", now=now) is None
    for origin in (None, "https://elsewhere.example"):
        caller = Caller(address="192.0.2.7", origin=origin)
        assert isinstance(refusal(found, caller, scope="ws", now=now), OriginNotAllowed)
    for scope in ("exchange", "evm", "grpc", "account"):
        assert isinstance(refusal(found, home, scope=scope, now=now), ScopeMissing)


def test_a_log_in_has_few(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    browser = signed_in(ada.user)
    made = [_token(ada, browser) for _ in range(MAX_TOKENS + 2)]
    usable = [raw for raw in made if _principal(raw) is not None]
    assert usable == made[2:]


def test_what_is_open_in_pages_takes_nothing_from_programs(cast: Cast) -> None:
    """Nor the other way round; and all pages together have little."""
    _, raw = _open(owner_of(cast.acme))
    page = _principal(raw)
    issued = services.issue_key(tenant=cast.acme, name="bot")
    bot = _principal(issued.raw)
    assert page is not None
    assert bot is not None
    occupancy = Occupancy()
    order = [page] * MAX_CONNECTIONS + [bot] * bot.limits.max_connections
    random.Random(7).shuffle(order)
    leases = [occupancy.open(principal) for principal in order]
    assert occupancy.held(cast.acme.pk).connections == bot.limits.max_connections
    assert occupancy.held(-cast.acme.pk).connections == MAX_CONNECTIONS
    for lease in leases:
        lease.close()
    assert occupancy.all_held() == {}


def test_a_plan_bounds_it_and_it_bounds_a_plan() -> None:
    assert narrowed(Limits(0, 0)).max_connections == 0
    large = Limits(20_000, 1_000_000, channels=frozenset({"trades"}), retention_hours=1)
    small = narrowed(large)
    assert small.max_connections == MAX_CONNECTIONS
    assert (small.channels, small.retention_hours) == (large.channels, 1)
    assert small.products is None
    evm_alone = narrowed(Limits(1, 1, products=frozenset({"evm"}))).products
    # Its own two doors, and no sandbox where the plan has none.
    assert evm_alone == {"evm", "ws", "info"}


def test_it_is_counted_under_a_key_that_opens_nothing(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    _open(ada)
    _open(ada)
    (counting,) = APIKey.objects.filter(tenant=cast.acme, is_dashboard=True)
    assert counting.revoked_at is not None
    assert counting not in APIKey.objects.for_tenant(cast.acme).of_customers()
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.filter(pk=counting.pk).update(revoked_at=None)


def test_a_browser_names_it_without_an_address() -> None:
    asked = b"hlrelay.v1, hlrelay.key.hlr_web_abc"
    assert presented_key(None, [(b"sec-websocket-protocol", asked)]) == "hlr_web_abc"
    assert presented_key(None, [(b"sec-websocket-protocol", b"hlrelay.v1")]) is None
    both = [(b"sec-websocket-protocol", asked), (b"x-api-key", b"other")]
    assert presented_key(None, both) == "other"


def test_expired_ones_are_cleared(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    browser, _ = _open(ada)
    DashboardToken.objects.update(
        created_at=datetime(2026, 1, 1, tzinfo=UTC), expires_at=datetime(2026, 1, 2, tzinfo=UTC)
    )
    _token(ada, browser)
    assert DashboardToken.objects.count() == 1
    assert dashboard_tokens.end_session(browser.session.session_key) == 1
    assert dashboard_tokens.end_session(None) == 0
