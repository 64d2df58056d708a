"""What a key may is what a real edge lets it do, and what is open ends when that changes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from streaming.ws.close_codes import CloseCode
from tests.support.edge import DEADLINE_S, Edge
from tests.support.environment import VAR

#: What customers are promised.
WITHIN_S = 5.0
SOCKETS = 50

IMPORTS = """
import json
from datetime import timedelta
from django.utils import timezone
from tenants import services
from tenants.models import APIKey, Plan, Quota, Tenant
def key(name): return APIKey.objects.get(name=name, rotated_at=None)
"""


@pytest.fixture(scope="module")
def edge(redis_url: str) -> Iterator[Edge]:
    """An edge behind a proxy, which is us, and a tenant that may open much."""
    edge = Edge(
        VAR / "keys-edge",
        redis_url=redis_url.removesuffix("/0") + "/11",
        variables={"RELAY_TRUSTED_PROXIES": "127.0.0.1"},
    )
    act(
        edge,
        "plan, _ = Plan.objects.get_or_create(code='wide', name='Wide')\n"
        "Quota.objects.get_or_create(plan=plan, max_connections=1000)\n"
        "for slug in ('desk', 'unpaid'): services.create_tenant(name=slug, slug=slug, plan=plan)",
    )
    edge.start()
    yield edge
    edge.stop()


def act(edge: Edge, code: str) -> str:
    """Do something as an operator's process would."""
    return edge.shell(IMPORTS + code)


def issue(edge: Edge, name: str, *, tenant: str = "desk", **rights: Any) -> str:
    """A new key of `tenant`."""
    return act(
        edge,
        f"print(services.issue_key(tenant=Tenant.objects.get(slug={tenant!r}),"
        f" name={name!r}, **{rights!r}).raw)",
    )


def update(edge: Edge, name: str, **rights: Any) -> None:
    """Change a key."""
    act(
        edge,
        f"changed = key({name!r})\n"
        f"for right, value in {rights!r}.items(): setattr(changed, right, value)\n"
        "services.update_key(changed)",
    )


def sockets(stack: ExitStack, edge: Edge, raw: str, **headers: str) -> list[ClientConnection]:
    """Many open sockets of one key, each of which was answered."""
    opened = [
        stack.enter_context(edge.connect(raw, additional_headers=headers)) for _ in range(SOCKETS)
    ]
    for socket in opened:
        assert_open(socket)
    return opened


def assert_open(socket: ClientConnection) -> None:
    """It is answered."""
    socket.send('{"method":"ping"}')
    assert socket.recv(DEADLINE_S) == '{"channel":"pong"}'


def assert_closed(opened: list[ClientConnection], reason: str, *, by_s: float) -> None:
    """All are closed with the code for it until `by_s`, as `time.monotonic` has it."""
    for socket in opened:
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(max(0.01, by_s - time.monotonic()))
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (CloseCode.POLICY, reason)


def handshake(edge: Edge, raw: str) -> int:
    """Its status: 101 is let in."""
    try:
        with edge.connect(raw):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def refusal(edge: Edge, raw: str, **headers: str) -> tuple[int, Any, Any]:
    """Status, body and headers of a refused handshake."""
    with pytest.raises(InvalidStatus) as refused:
        edge.connect(raw, additional_headers=headers)
    response = refused.value.response
    return response.status_code, json.loads(response.body), response.headers


INVALID = "This API key is not valid."


def test_fifty_sockets_of_a_revoked_key_close_and_no_other(edge: Edge) -> None:
    raw, other = issue(edge, "revoked"), issue(edge, "kept")
    with ExitStack() as stack:
        opened = sockets(stack, edge, raw)
        kept = stack.enter_context(edge.connect(other))
        act(edge, "services.revoke_key(key('revoked'))")
        assert_closed(opened, INVALID, by_s=time.monotonic() + WITHIN_S)
        assert_open(kept)
    assert refusal(edge, raw)[:2] == (401, {"code": "invalid_key", "msg": INVALID})
    assert edge.info(b'{"type":"meta"}', api_key=raw)[0] == 401


def test_a_suspended_tenant_s_close_and_come_back(edge: Edge) -> None:
    raw = issue(edge, "unpaid", tenant="unpaid")
    with ExitStack() as stack:
        opened = sockets(stack, edge, raw)
        act(edge, "services.suspend_tenant(Tenant.objects.get(slug='unpaid'), reason='unpaid')")
        assert_closed(opened, INVALID, by_s=time.monotonic() + WITHIN_S)
    assert refusal(edge, raw)[:2] == (401, {"code": "invalid_key", "msg": INVALID})
    act(edge, "services.resume_tenant(Tenant.objects.get(slug='unpaid'))")
    with edge.connect(raw) as again:
        assert_open(again)


def test_a_rotated_key_works_to_the_end_of_its_overlap(edge: Edge) -> None:
    old = issue(edge, "rotated")
    with ExitStack() as stack:
        opened = sockets(stack, edge, old)
        told = json.loads(
            act(
                edge,
                "old = key('rotated')\n"
                "new = services.rotate_key(old, overlap=timedelta(seconds=5))\n"
                "print(json.dumps([new.raw, old.expires_at.isoformat()]))",
            )
        )
        new, ends_s = told[0], datetime.fromisoformat(told[1]).timestamp()
        successor = stack.enter_context(edge.connect(new))
        for socket in (*opened, stack.enter_context(edge.connect(old))):
            assert_open(socket)
        assert time.time() < ends_s
        # Whether they still open is asked all the time until they do not.
        asked_s = time.time()
        while (status := handshake(edge, old)) == 101:
            assert asked_s < ends_s
            asked_s = time.time()
        assert status == 401
        assert time.time() >= ends_s
        assert_closed(opened, INVALID, by_s=time.monotonic() + ends_s + WITHIN_S - time.time())
        assert time.time() >= ends_s
        assert_open(successor)


def test_an_expiry_set_on_an_open_key_is_kept(edge: Edge) -> None:
    raw = issue(edge, "expires")
    with ExitStack() as stack:
        opened = sockets(stack, edge, raw)
        ends = act(
            edge,
            "changed = key('expires')\n"
            "changed.expires_at = timezone.now() + timedelta(seconds=2)\n"
            "services.update_key(changed)\n"
            "print(changed.expires_at.timestamp())",
        )
        in_s = float(ends) - time.time()
        assert_closed(opened, INVALID, by_s=time.monotonic() + in_s + WITHIN_S)
        assert time.time() >= float(ends)


def test_a_list_that_fits_no_more_closes_those_it_leaves_out(edge: Edge) -> None:
    raw = issue(edge, "listed", allowed_networks=["192.0.2.0/24", "2001:db8::/32"])
    inside = {"X-Forwarded-For": "192.0.2.7"}
    # What the caller wrote itself stands before what the proxy, the last, has seen.
    outside = {"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}
    status, body, _ = refusal(edge, raw, **outside)
    assert (status, body["code"]) == (403, "address_not_allowed")
    assert body["msg"] == "This API key may not be used from 198.51.100.1."
    assert refusal(edge, raw)[1]["msg"] == "This API key may not be used from 127.0.0.1."
    assert edge.info(b'{"type":"meta"}', api_key=raw, **outside)[0] == 403
    assert edge.info(b"not json", api_key=raw, **inside)[0] == 400  # let in
    with ExitStack() as stack:
        staying = sockets(stack, edge, raw, **inside)
        leaving = sockets(stack, edge, raw, **{"X-Forwarded-For": "2001:db8::1"})
        update(edge, "listed", allowed_networks=["192.0.2.7"])
        reason = "This API key may not be used from 2001:db8::1."
        assert_closed(leaving, reason, by_s=time.monotonic() + WITHIN_S)
        for socket in staying:
            assert_open(socket)
        update(edge, "listed", scopes=["info"])
        reason = "This API key does not have the scope 'ws'."
        assert_closed(staying, reason, by_s=time.monotonic() + WITHIN_S)


def test_an_origin_that_is_not_listed_is_refused(edge: Edge) -> None:
    raw = issue(edge, "page", allowed_origins=["https://desk.example"])
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        status, body, _ = refusal(edge, raw, **headers)
        assert (status, body["code"]) == (403, "origin_not_allowed")
        assert edge.info(b'{"type":"meta"}', api_key=raw, **headers)[0] == 403
    with edge.connect(raw, additional_headers={"Origin": "https://Desk.example"}) as page:
        assert_open(page)


def test_a_rate_counts_handshakes_and_reads_and_both_keys_of_a_rotation(edge: Edge) -> None:
    raw = issue(edge, "slow", rate_per_minute=1, rate_burst=4)
    successor = act(edge, "print(services.rotate_key(key('slow'), overlap=timedelta(days=7)).raw)")
    assert handshake(edge, raw) == handshake(edge, successor) == 101
    for key in (raw, successor):
        assert edge.info(b"not json", api_key=key)[0] == 400  # let in
    status, answer = edge.info(b'{"type":"meta"}', api_key=successor)
    assert (status, json.loads(answer)["code"]) == (429, "rate_limited")
    for key in (raw, successor):
        status, body, headers = refusal(edge, key)
        assert (status, body["code"]) == (429, "rate_limited")
        assert 30 < int(headers["Retry-After"]) <= 60


def test_a_test_key_opens_what_a_live_one_does(edge: Edge) -> None:
    raw = issue(edge, "try", environment="test")
    assert raw.startswith("hlr_test_")
    with edge.connect(raw) as customer:
        assert_open(customer)


def test_nobody_s_headers_are_believed_without_a_proxy(edge: Edge, redis_url: str) -> None:
    raw = issue(edge, "forged", allowed_networks=["192.0.2.0/24"])
    direct = Edge(VAR / "keys-edge-direct", redis_url=redis_url.removesuffix("/0") + "/11")
    direct.share(edge)
    direct.start()
    try:
        for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            status, body, _ = refusal(direct, raw, **{header: "192.0.2.7"})
            assert (status, body["code"]) == (403, "address_not_allowed")
    finally:
        direct.stop()


def test_no_key_is_logged(edge: Edge) -> None:
    raw = issue(edge, "quiet")
    assert handshake(edge, raw) == 101
    act(edge, "services.revoke_key(key('quiet'))")
    refusal(edge, raw)
    assert "hlr_live_" + raw[9:] not in edge.log.read_text()
    assert raw[12:] not in edge.get("/metrics")[1].decode()
