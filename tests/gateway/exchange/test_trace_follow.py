"""What becomes of traced orders: matched by user and id of what the hub's own feeds bring."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.exchange import trace, trace_feeds, trace_follow
from gateway.exchange.trace import Trace
from gateway.exchange.trace_follow import Follower
from streaming.core.catalogue import Catalogue
from streaming.core.envelope import Envelope, Position, Role
from streaming.core.hub import Hub
from tests.core.test_hub import Wishes

USER, AGENT = "0x" + "ab" * 20, "0x" + "cd" * 20
CLOID = "0x" + "0a" * 16
UPDATES, FILLS = f"orderUpdates user={USER}", f"userFills user={USER}"


class Watchtower:
    """A follower in a hub to which the test publishes; `/info` answers what it is told to."""

    def __init__(self, *, has_node: bool = True) -> None:
        self.hub = Hub(Wishes())
        self.now_ms = 1_000_000.0
        self.changed: list[Trace] = []
        self.answers: dict[str, Any] = {"userRole": {"role": "user"}}
        self.asked: list[dict[str, Any]] = []
        self.height = 0
        self.reached: dict[str, Position] = {}
        self.follower = Follower(
            self.hub,
            catalogue=Catalogue,
            changed=lambda tenant_id, one: self.changed.append(one),
            ask=self._ask,
            has_node=lambda: has_node,
            now_ms=lambda: self.now_ms,
            monotonic=lambda: self.now_ms / 1e3,
        )

    async def _ask(self, payload: dict[str, Any], slug: str) -> bytes:
        self.asked.append(payload)
        return orjson.dumps(self.answers[payload["type"]])

    def placed(self, *, tenant_id: int = 3, **given: Any) -> Trace:
        """A trace that waits, of an order that was just answered."""
        fields = {"id": "1", "request_id": "r", "key_id": 7, "key_prefix": "hlr", "place": 0}
        fields |= {"kind": "order", "received_ms": self.now_ms, "user": USER, "sent_ms": 999_990.0}
        one = Trace(**(fields | given))
        self.follower.expect(tenant_id, one.user)
        signer = AGENT if one.user == AGENT else USER
        may_rest = one.kind != "cancel"
        self.follower.wait_for(
            one, tenant_id=tenant_id, slug="acme", signer=signer, may_rest=may_rest
        )
        if FILLS not in self.reached:
            data = {"isSnapshot": True, "user": USER, "fills": []}
            self.publish(FILLS, data, role=Role.SNAPSHOT)
        return one

    def publish(self, topic: str, data: Any, *, role: Role = Role.UPDATE) -> None:
        self.height += 1
        channel = topic.split(" ", 1)[0]
        payload = b'{"channel":"%b","data":%b}' % (channel.encode(), orjson.dumps(data))
        before = self.reached.get(topic, Position(0))
        here = self.reached[topic] = Position(self.height)
        self.hub.publish(Envelope(topic, "node-e", here, before, role, payload), "w")
        self.hub.flush()

    def update(self, oid: int, status: str, at_ms: int, **given: Any) -> None:
        order = {"coin": "ETH", "oid": oid, "timestamp": 1_000_010, **given}
        update = {"order": order, "status": status, "statusTimestamp": at_ms}
        self.publish(UPDATES, [update])

    def fill(self, oid: int, tid: int, at_ms: int) -> None:
        data = {"fills": [{"oid": oid, "tid": tid, "time": at_ms, "coin": "ETH"}], "user": USER}
        self.publish(FILLS, data)


async def test_an_order_is_placed_filled_and_over() -> None:
    at = Watchtower()
    one = at.placed(oid=5)
    assert one.state == trace.WAITS
    at.update(6, "open", 1_000_010)  # another's
    assert one.block_ms is None
    at.update(5, "open", 1_000_010)
    assert (one.block_ms, one.coin, one.last_status) == (1_000_010, "ETH", "open")
    assert one.height == at.height
    at.fill(5, 1, 1_000_080)
    at.fill(5, 1, 1_000_080)  # as an opening frame repeats it
    at.fill(5, 2, 1_000_150)
    at.update(5, "filled", 1_000_150)
    assert (one.fill_ms, one.fills, one.last_status) == (1_000_080, 2, "filled")
    at.now_ms += trace_follow.AFTER_END_MS
    at.follower.sweep()
    at.fill(5, 3, 1_000_300)
    assert one.fills == 2
    at.now_ms += trace_follow.LINGER_MS
    at.follower.sweep()
    assert not at.hub.feeds[UPDATES].is_followed
    await at.follower.aclose()


async def test_a_node_may_be_faster_than_the_exchange_s_answer() -> None:
    at = Watchtower()
    at.placed(oid=4)  # so that the user is followed
    at.update(5, "open", 1_000_010, cloid=CLOID)
    at.fill(5, 1, 1_000_010)
    at.update(5, "filled", 1_000_010, cloid=CLOID)
    one = at.placed(oid=5, cloid=CLOID, status="filled")
    assert (one.block_ms, one.fill_ms, one.fills) == (1_000_010, 1_000_010, 1)
    assert (one.last_status, one.state) == ("filled", trace.SEEN)
    late = at.placed(cloid=CLOID, outcome=trace.UNKNOWN)
    assert (late.oid, late.fills) == (5, 1)
    at.now_ms += trace_feeds.RECENT_MS
    at.follower.sweep()
    assert not at.follower._feeds._recent
    await at.follower.aclose()


async def test_an_order_whose_outcome_nobody_knew_is_found_by_its_cloid() -> None:
    at = Watchtower()
    one = at.placed(cloid=CLOID, outcome=trace.UNKNOWN)
    at.update(9, "open", 1_000_010, cloid=CLOID)
    assert (one.oid, one.block_ms) == (9, 1_000_010)
    at.fill(9, 1, 1_000_011)
    assert one.fills == 1
    await at.follower.aclose()


async def test_a_cancel_is_in_the_block_in_which_its_order_ends() -> None:
    at = Watchtower()
    one = at.placed(kind="cancel", oid=5)
    at.update(5, "open", 1_000_010)
    assert one.block_ms is None
    at.update(5, "canceled", 1_000_090)
    assert (one.block_ms, one.last_status) == (1_000_090, "canceled")
    await at.follower.aclose()


async def test_an_agent_s_order_is_its_master_s() -> None:
    at = Watchtower()
    at.answers["userRole"] = {"role": "agent", "data": {"user": USER}}
    one = at.placed(oid=5, user=AGENT)
    while one.user != USER:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0)
    at.update(5, "open", 1_000_010)
    assert one.block_ms == 1_000_010
    assert at.follower.user_of(AGENT) == USER
    at.placed(oid=6, user=AGENT)
    assert [asked["type"] for asked in at.asked] == ["userRole"]
    await at.follower.aclose()


async def test_what_was_not_seen_is_asked_for_once() -> None:
    at = Watchtower()
    order = {"coin": "ETH", "oid": 5, "timestamp": 1_000_007}
    told = {"order": order, "status": "open", "statusTimestamp": 1_000_007}
    at.answers["orderStatus"] = {"status": "order", "order": told}
    one = at.placed(oid=5)
    at.now_ms += trace_follow.ASK_AFTER_MS
    for _ in range(3):
        at.follower.sweep()
        await asyncio.sleep(0.001)
    assert (one.block_ms, one.height, one.last_status) == (1_000_007, None, "open")
    assert [asked["type"] for asked in at.asked] == ["userRole", "orderStatus"]
    await at.follower.aclose()


async def test_nothing_is_followed_on_the_public_feed_and_not_without_bound() -> None:
    at = Watchtower(has_node=False)
    assert at.placed(oid=5).state == trace.UNFOLLOWED
    assert not at.hub.feeds
    await at.follower.aclose()
    at = Watchtower()
    ones = [at.placed(oid=n + 1, user=f"0x{n:040x}") for n in range(30)]
    states = [one.state for one in ones]
    assert states.count(trace.WAITS) == trace_follow.MAX_USERS
    assert states[-1] == trace.UNFOLLOWED
    await at.follower.aclose()


async def test_who_is_no_user_at_all_takes_nothing_from_the_others() -> None:
    at = Watchtower()
    for invented in ("0x" + "z" * 40, "0x" + "y" * 40):
        at.follower.expect(3, invented)
    at.now_ms += trace_follow.LINGER_MS
    at.follower.sweep()
    one = at.placed(oid=5)
    at.update(5, "open", 1_000_010)
    assert one.block_ms == 1_000_010
    await at.follower.aclose()


async def test_an_order_that_waited_without_a_place_frees_nobody_s() -> None:
    at = Watchtower()
    for n in range(trace_follow.MAX_USERS):
        at.follower.expect(3, f"0x{n:040x}")
    one = at.placed(oid=5, outcome=trace.UNKNOWN)  # no room: its user is not followed
    at.now_ms += trace_follow.LINGER_MS
    at.follower.sweep()
    at.follower.expect(3, USER)
    assert at.hub.feeds[UPDATES].is_followed
    at.now_ms += trace_follow.RESTS_MS
    at.follower.sweep()
    assert one.state == trace.NEVER
    assert not at.hub.feeds[UPDATES].is_followed
    await at.follower.aclose()


async def test_no_tenants_take_all_that_can_be_followed() -> None:
    """25 of them did, with 20 users each, and kept it."""
    at = Watchtower()
    first = {
        (tenant, n): at.placed(oid=n + 1, tenant_id=tenant, user=f"0x{tenant * 100 + n:040x}")
        for tenant in range(1, 26)
        for n in range(20)
    }
    assert all(one.state == trace.WAITS for one in first.values())
    late = [at.placed(oid=n, tenant_id=26, user=f"0x{n:040x}") for n in range(9_000, 9_020)]
    states = [one.state for one in late]
    # Equal shares, but for one.
    assert states.count(trace.WAITS) in {18, 19}
    kept = [sum(first[t, n].state == trace.WAITS for n in range(20)) for t in range(1, 26)]
    assert min(kept) >= 18
    assert sum(kept) + states.count(trace.WAITS) == trace_follow.MAX_ALL_USERS
    # And as many feeds are followed in the hub as there are places.
    assert sum(feed.is_followed for feed in at.hub.feeds.values()) <= 2 * trace_follow.MAX_ALL_USERS
    await at.follower.aclose()


async def test_whose_orders_are_over_gives_its_place_first() -> None:
    at = Watchtower()
    for n in range(trace_follow.MAX_USERS):
        at.follower.expect(4, f"0x{n:040x}")
    busy = at.placed(oid=7, tenant_id=4, user=f"0x{0:040x}")
    for tenant in range(5, 5 + trace_follow.MAX_ALL_USERS // trace_follow.MAX_USERS - 1):
        for n in range(trace_follow.MAX_USERS):
            at.follower.expect(tenant, f"0x{n:040x}")
    for tenant in range(100, 115):
        assert at.placed(oid=1, tenant_id=tenant).state == trace.WAITS
    assert busy.state == trace.WAITS
    await at.follower.aclose()


async def test_no_tenants_take_all_orders_that_can_wait(monkeypatch: Any) -> None:
    monkeypatch.setattr(trace_follow, "MAX_ALL_OPEN", 30)
    at = Watchtower()
    greedy = [at.placed(oid=n + 1, tenant_id=1) for n in range(30)]
    late = [at.placed(oid=n + 100, tenant_id=2) for n in range(20)]
    assert [one.state for one in late] == [trace.WAITS] * 15 + [trace.UNFOLLOWED] * 5
    # The oldest of the other's went.
    assert [one.state for one in greedy] == [trace.UNFOLLOWED] * 15 + [trace.WAITS] * 15
    await at.follower.aclose()
