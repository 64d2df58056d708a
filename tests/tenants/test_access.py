"""A key opens a door to whom its lists name, until it ends; nothing else decides."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.admission import errors
from tenants.admission.access import (
    NOBODY,
    Caller,
    is_within,
    parse_network,
    parse_origin,
    refusal,
)
from tenants.admission.limiter import Buckets, Rate
from tenants.admission.presented import caller_of, peer_address
from tests.tenants.test_directory import principal

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DESK = Caller("192.0.2.7", "https://desk.example")


def code_of(caller: Caller = DESK, *, scope: str = "ws", now: datetime = NOW, **rights: Any) -> str:
    denied = refusal(principal(**rights), caller, scope=scope, now=now)
    return denied.code if denied else "admitted"


def networks(*texts: str) -> tuple[Any, ...]:
    return tuple(parse_network(text) for text in texts)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("192.0.2.0", "admitted"),
        ("192.0.2.255", "admitted"),
        ("::ffff:192.0.2.7", "admitted"),  # the same peer, at a socket that listens on both
        ("2001:db8::1", "admitted"),
        ("192.0.1.255", "address_not_allowed"),
        ("192.0.3.0", "address_not_allowed"),
        ("2001:db9::", "address_not_allowed"),
        ("::192.0.2.7", "address_not_allowed"),
        ("", "address_not_allowed"),
        ("unix:", "address_not_allowed"),
        ("192.0.2.7, 192.0.2.7", "address_not_allowed"),
    ],
)
def test_a_list_of_networks_ends_where_it_says(address: str, code: str) -> None:
    listed = networks("192.0.2.0/24", "2001:db8::/32")
    assert code_of(Caller(address), networks=listed) == code


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("https://desk.example", "admitted"),
        (None, "origin_not_allowed"),
        ("null", "origin_not_allowed"),
        ("http://desk.example", "origin_not_allowed"),
        ("https://desk.example.", "origin_not_allowed"),
        ("https://desk.example:8443", "origin_not_allowed"),
        ("https://evil.desk.example", "origin_not_allowed"),
        ("https://desk.example.evil", "origin_not_allowed"),
        ("https://desk.example, https://desk.example", "origin_not_allowed"),
    ],
)
def test_a_list_of_origins_names_whole_origins(origin: str | None, code: str) -> None:
    listed = frozenset({"https://desk.example"})
    assert code_of(Caller("192.0.2.7", origin), origins=listed) == code


def test_a_key_ends_at_its_last_moment_whatever_else_is_wrong() -> None:
    ends = {"expires_at": NOW, "networks": networks("10.0.0.0/8"), "scopes": frozenset()}
    assert code_of(now=NOW - timedelta(microseconds=1), expires_at=NOW) == "admitted"
    assert code_of(now=NOW, **ends) == "invalid_key"


moments = st.datetimes(timezones=st.just(UTC))
addresses = st.ip_addresses().map(str) | st.sampled_from(["", "192.0.2.7", "not an address"])
listed_networks = st.lists(
    st.tuples(st.ip_addresses(), st.integers(0, 32)).map(
        lambda pair: ipaddress.ip_network(pair, strict=False)
    ),
    max_size=4,
).map(tuple)
some_origins = st.sampled_from(["https://a.example", "https://b.example", "http://a.example"])
scopes = st.sampled_from(["ws", "info", "grpc"])


@given(
    caller=st.builds(Caller, addresses, st.none() | some_origins),
    scope=scopes,
    now=moments,
    expires_at=st.none() | moments,
    listed=listed_networks,
    origins=st.frozensets(some_origins),
    allowed=st.frozensets(scopes),
)
def test_let_in_is_who_fits_everything(
    caller: Caller,
    scope: str,
    now: datetime,
    expires_at: datetime | None,
    listed: tuple[Any, ...],
    origins: frozenset[str],
    allowed: frozenset[str],
) -> None:
    """Each clause said a second time, by the arithmetic of addresses."""
    rights = {"expires_at": expires_at, "networks": listed, "origins": origins, "scopes": allowed}
    denied = refusal(principal(**rights), caller, scope=scope, now=now)
    try:
        address = ipaddress.ip_address(caller.address)
        mapped = getattr(address, "ipv4_mapped", None) or address
        is_listed = any(
            network.version == mapped.version and int(network[0]) <= int(mapped) <= int(network[-1])
            for network in listed
        )
    except ValueError:
        is_listed = False
    assert (denied is None) == (
        (expires_at is None or now < expires_at)
        and (not listed or is_listed)
        and (not origins or caller.origin in origins)
        and scope in allowed
    )
    # Narrowing never opens: the caller whom nobody knows passes no list.
    if listed or origins:
        assert refusal(principal(**rights), NOBODY, scope=scope, now=now) is not None


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_network_is_taken_as_it_is_written(address: Any, length: int) -> None:
    length = min(length, address.max_prefixlen)
    network = ipaddress.ip_network((address, length), strict=False)
    mapped = network.version == 6 and network.network_address.ipv4_mapped
    if mapped:
        with pytest.raises(ValueError, match="stands for IPv4"):
            parse_network(str(network))
    else:
        assert parse_network(f" {network} ") == network
    if address != network.network_address:
        with pytest.raises(ValueError, match=r"bits set beyond"):
            parse_network(f"{address}/{length}")


@given(st.text(), st.sampled_from([parse_network, parse_origin]))
def test_any_text_is_taken_or_refused_by_its_name(text: str, parse: Any) -> None:
    assert not is_within(text, ())
    try:
        parse(text)
    except ValueError as error:
        told = str(error)
    else:
        return
    assert text in told


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Desk.Example", "https://desk.example"),
        (" https://desk.example:443 ", "https://desk.example"),
        ("http://desk.example:443", "http://desk.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    ["", "*", "null", "desk.example", "https://", "https://*.example", "https://desk.example/",
     "https://desk.example:99999", "ftp://desk.example", "https://a b", "https://ü.example",
     "https://user@desk.example", "https://desk.example\nhttps://evil.example"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        parse_origin(text)


def test_two_origin_headers_are_one_that_nobody_listed() -> None:
    headers = [(b"origin", b"https://desk.example"), (b"origin", b"https://evil.example")]
    caller = caller_of({"client": ["192.0.2.7", 1], "headers": headers})
    assert code_of(caller, origins=frozenset({"https://desk.example"})) == "origin_not_allowed"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("127.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("198.51.100.9", [b"192.0.2.7"], "198.51.100.9"),  # forged: not by a trusted proxy
        ("127.0.0.1", [b"192.0.2.7, 198.51.100.1"], "198.51.100.1"),  # forged before the proxy
        ("127.0.0.1", [b"192.0.2.7", b"198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", [b"198.51.100.1, 10.1.2.3"], "198.51.100.1"),  # two proxies, both ours
        ("127.0.0.1", [b"192.0.2.7, rubbish"], "127.0.0.1"),
        ("127.0.0.1", [b"192.0.2.7, "], "127.0.0.1"),
        ("127.0.0.1", [b"10.1.2.3"], "10.1.2.3"),
        ("::ffff:127.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("", [b"192.0.2.7"], ""),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded: list[bytes], address: str) -> None:
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    trusted = networks("127.0.0.0/8", "10.0.0.0/8")
    assert peer_address(peer, headers, trusted=trusted) == address
    assert peer_address(peer, headers, trusted=()) == peer


@given(
    rates=st.lists(
        st.builds(Rate, st.integers(1, 600), st.integers(1, 20)), min_size=1, max_size=3
    ),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 40), st.integers(0, 2)), max_size=60),
)
def test_a_key_never_spends_more_than_its_largest_rate(
    rates: list[Rate], steps: list[tuple[float, float, int]]
) -> None:
    buckets = Buckets()
    now_s = spent = 0.0
    for step_s, weight, place in steps:
        now_s += step_s
        rate = rates[place % len(rates)]
        if buckets.take(7, rate, weight, now_s=now_s) == 0.0:
            spent += min(weight, rate.burst)
    burst, per_minute = max(r.burst for r in rates), max(r.per_minute for r in rates)
    assert spent <= burst + per_minute / 60 * now_s + 1e-6


def test_the_burst_is_the_limit_and_a_heavy_request_takes_all_of_it() -> None:
    buckets, rate = Buckets(), Rate(per_minute=60, burst=3)
    assert [buckets.take(7, rate, 1, now_s=0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
    assert buckets.take(8, rate, 20, now_s=0.0) == 0.0
    assert buckets.take(8, rate, 20, now_s=2.0) == 1.0
    assert buckets.take(8, rate, 20, now_s=3.0) == 0.0
    # A larger rate counts at once, and gives no second burst for it.
    assert buckets.take(8, Rate(per_minute=600, burst=30), 1, now_s=3.0) == pytest.approx(0.1)


def test_buckets_are_bounded() -> None:
    buckets = Buckets(max_buckets=10)
    for key_id in range(100):
        buckets.take(key_id, Rate(60, 1), 1, now_s=0.0)
    assert len(buckets) == 10
    assert buckets.take(99, Rate(60, 1), 1, now_s=0.0) == 1.0


def test_refusals_say_it_in_one_line() -> None:
    for denied in (errors.AddressNotAllowed("192.0.2.7"), errors.OriginNotAllowed()):
        assert "\n" not in str(denied)
        assert denied.http_status == 403
    assert "192.0.2.7" in str(errors.AddressNotAllowed("192.0.2.7"))
