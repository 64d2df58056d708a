"""Another provider's streams of changes in books, at a real process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from streaming.bus import keys
from streaming.core.envelope import Envelope, Position, Role, end_of
from tests.gateway.grpc.clients import EPOCH
from tests.gateway.grpc.tables import QUICKNODE, classes
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge

QN = classes("hyperliquid", QUICKNODE)
BOOKS = "/hyperliquid.OrderBookStreaming"
COINS = ["AAA", "BBB", "CCC"]
NEW, UPDATE, REMOVE = 1, 2, 3


@pytest.fixture(scope="module")
def own_edge(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcEdge]:
    """A process that knows three coins."""
    edge = GrpcEdge(tmp_path_factory.mktemp("books"), redis_url=redis_url.removesuffix("/0") + "/3")
    edge.redis.set(keys.CATALOGUE, json.dumps({"coins": COINS, "dexes": []}))
    edge.start()
    yield edge
    edge.redis.delete(keys.CATALOGUE)
    edge.stop()


@pytest.fixture
def channel(own_edge: GrpcEdge) -> Iterator[grpc.Channel]:
    with own_edge.channel() as channel:
        yield channel


class Calling:
    """Calls of one method, whose topics are `kind`."""

    def __init__(self, edge: GrpcEdge, channel: grpc.Channel, method: str, kind: str) -> None:
        self.edge, self.channel, self.method, self.kind = edge, channel, method, kind
        self.request = QN[{"StreamBboBook": "BboBookRequest"}.get(method, f"{method[6:]}Request")]
        response = {"StreamBboBook": "BboBookUpdate"}.get(method, f"{method[6:]}Update")
        self.response = QN[response]

    def call(self, key: str = "", **fields: Any) -> Any:
        """One call."""
        stream = self.channel.unary_stream(
            f"{BOOKS}/{self.method}",
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )
        metadata = (("x-token", key or self.edge.api_key),)
        return stream(self.request(**fields), metadata=metadata, timeout=DEADLINE_S)

    def topic(self, coin: str) -> str:
        """The name of a coin's topic."""
        return f"l2Diff {coin} 20 0 0 0" if self.kind == "l2Diff" else f"{self.kind} {coin}"

    def wait(self, *coins: str) -> None:
        """Until the process follows these coins."""
        for coin in coins:
            self.edge.wait_for_lease(self.topic(coin))

    def told(
        self,
        coin: str,
        height: int,
        data: dict[str, Any],
        *,
        role: Role = Role.UPDATE,
        previous: Position | None = None,
        here: Position | None = None,
    ) -> Envelope:
        """A frame of a coin."""
        here = here or Position(height)
        before = previous or (here if role is Role.SNAPSHOT else Position(height - 1))
        payload = json.dumps({"channel": self.kind, "data": data}, separators=(",", ":")).encode()
        return Envelope(self.topic(coin), EPOCH, here, before, role, payload)

    def levels(self, coin: str, height: int, *bids: str, **place: Any) -> Envelope:
        """Levels of a coin, `px:sz`."""
        rows = [
            {"px": px, "sz": sz, "n": int(sz != "0.0")} for px, sz in (b.split(":") for b in bids)
        ]
        data = {"coin": coin, "time": height * 100, "height": height, "levels": [rows, []]}
        if place.get("role") is Role.SNAPSHOT:
            data["snapshot"] = True
        return self.told(coin, height, data, **place)

    def orders(self, coin: str, height: int, *oids: int, **place: Any) -> Envelope:
        """All orders of a coin."""
        rows = [
            {"user": "0xa", "coin": coin, "side": "B", "limitPx": "1", "sz": "2", "oid": oid,
             "timestamp": 8} for oid in oids
        ]  # fmt: skip
        snapshot = {"coin": coin, "time": height * 100, "height": height, "levels": [rows, []]}
        return self.told(coin, height, {"Snapshot": snapshot}, role=Role.SNAPSHOT, **place)

    def changes(self, coin: str, height: int, **changes: Any) -> Envelope:
        """What happened to orders: `o7="remove"`."""
        diffs = [
            {"user": "0xa", "oid": int(oid[1:]), "px": "1.5", "coin": coin, "side": "A",
             "raw_book_diff": change} for oid, change in changes.items()
        ]  # fmt: skip
        updates = {"time": height * 100, "height": height, "order_statuses": []}
        return self.told(coin, height, {"Updates": updates | {"book_diffs": diffs}})


def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        for _ in call:
            pass
    line = error.value.details() or ""
    assert "\n" not in line
    return error.value.code(), line


def levels_of(diff: Any) -> dict[str, tuple[str, int]]:
    return {level.px: (level.sz, level.n) for level in diff.bids}


def test_the_best_prices_are_told_when_they_are_others(
    own_edge: GrpcEdge, channel: grpc.Channel
) -> None:
    bbo = Calling(own_edge, channel, "StreamBboBook", "bbo")
    call = bbo.call()
    bbo.wait(*COINS)  # all there are

    def best(coin: str, height: int, bid: str | None, ask: str | None, **place: Any) -> Envelope:
        sides = [px and {"px": px, "sz": "5", "n": 6} for px in (bid, ask)]
        data = {"coin": coin, "time": height * 100, "bbo": sides}
        return bbo.told(coin, height, data, **place)

    own_edge.publish(best("AAA", 50, "1", None, role=Role.SNAPSHOT))
    first = next(call)
    assert (first.coin, first.time, first.block_number) == ("AAA", 5000, 50)
    assert (first.bid.px, first.bid.sz, first.bid.n, first.HasField("ask")) == ("1", "5", 6, False)
    own_edge.publish(best("AAA", 51, "1", None))  # given again: no news
    own_edge.publish(best("BBB", 51, "1", None, role=Role.SNAPSHOT))
    own_edge.publish(best("AAA", 52, "1", "2"))
    got = [next(call), next(call)]
    assert [(g.coin, g.block_number, g.ask.px) for g in got] == [("BBB", 51, ""), ("AAA", 52, "2")]
    call.cancel()


def test_changed_levels_of_a_block_are_one_message(
    own_edge: GrpcEdge, channel: grpc.Channel
) -> None:
    diff = Calling(own_edge, channel, "StreamL2BookDiff", "l2Diff")
    call = diff.call(coins=["BBB", "AAA", "AAA"])
    diff.wait("AAA", "BBB")
    own_edge.publish(
        diff.levels("AAA", 50, "1.0:2.0", "0.9:1.0", role=Role.SNAPSHOT),
        diff.levels("BBB", 50, "7.0:2.0", role=Role.SNAPSHOT),
    )
    first = next(call)
    assert (first.time, first.height, first.snapshot) == (5000, 50, True)
    assert [(d.coin, d.seq, d.prev_seq, d.snapshot) for d in first.diffs] == [
        ("AAA", 1, 0, True),
        ("BBB", 1, 0, True),
    ]
    assert levels_of(first.diffs[0]) == {"1.0": ("2.0", 1), "0.9": ("1.0", 1)}
    own_edge.publish(
        diff.levels("AAA", 51, "0.9:0.0"),
        diff.levels("BBB", 51, "7.0:3.0"),
        diff.levels("BBB", 52, "7.0:4.0"),
    )
    both, one = next(call), next(call)
    assert (both.height, both.snapshot, one.height) == (51, False, 52)
    assert [(d.coin, d.seq, d.prev_seq) for d in both.diffs] == [("AAA", 2, 1), ("BBB", 2, 1)]
    assert levels_of(both.diffs[0]) == {"0.9": ("0", 0)}
    assert [(d.coin, d.seq, d.prev_seq) for d in one.diffs] == [("BBB", 3, 2)]
    # A correction: the coin begins anew, with a snapshot, and the other one goes on.
    reset = Envelope(
        diff.topic("AAA"), EPOCH, end_of(52), Position(51), Role.RESET, b"the book was corrected"
    )
    behind = end_of(52)
    place = {"role": Role.SNAPSHOT, "here": behind, "previous": behind}
    own_edge.publish(reset, diff.levels("AAA", 52, "4.0:4.0", **place))
    again = next(call)
    assert [(d.coin, d.seq, d.prev_seq, d.snapshot) for d in again.diffs] == [("AAA", 3, 2, True)]
    assert levels_of(again.diffs[0]) == {"4.0": ("4.0", 1)}
    call.cancel()


def test_who_wants_no_first_levels_gets_changes_alone(
    own_edge: GrpcEdge, channel: grpc.Channel
) -> None:
    diff = Calling(own_edge, channel, "StreamL2BookDiff", "l2Diff")
    call = diff.call(coins=["CCC"], skip_initial_snapshot=True)
    diff.wait("CCC")
    own_edge.publish(diff.levels("CCC", 50, "1.0:2.0", role=Role.SNAPSHOT))
    own_edge.publish(diff.levels("CCC", 51, "1.0:3.0"))
    got = next(call)
    (only,) = got.diffs
    assert (got.height, got.snapshot, only.seq, only.prev_seq) == (51, False, 1, 0)
    call.cancel()


def test_orders_of_one_coin(own_edge: GrpcEdge, channel: grpc.Channel) -> None:
    l4 = Calling(own_edge, channel, "StreamL4BookUpdates", "l4Diff")
    call = l4.call(coins=["CCC"])
    l4.wait("CCC")
    own_edge.publish(l4.orders("CCC", 50, 7, 8))
    first = next(call)
    assert (first.time, first.height, first.snapshot) == (5000, 50, True)
    assert [(d.diff_type, d.oid, d.side, d.px, d.sz) for d in first.diffs] == [
        (NEW, 7, "B", "1", "2"),
        (NEW, 8, "B", "1", "2"),
    ]
    update = {"update": {"origSz": "2", "newSz": "1"}}
    odd = {"o1": {"later": 1}, "o2": {"new": {"sz": 5}}}
    own_edge.publish(l4.changes("CCC", 51, o7=update, o8="remove", o9={"new": {"sz": "3"}}, **odd))
    got = next(call)
    assert (got.height, got.snapshot) == (51, False)
    assert [(d.diff_type, d.coin, d.oid, d.user, d.side, d.px, d.sz) for d in got.diffs] == [
        (UPDATE, "CCC", 7, "0xa", "A", "1.5", "1"),
        (REMOVE, "CCC", 8, "0xa", "A", "1.5", ""),
        (NEW, "CCC", 9, "0xa", "A", "1.5", "3"),
    ]
    behind = end_of(51)
    own_edge.publish(
        Envelope(l4.topic("CCC"), EPOCH, behind, Position(51), Role.RESET, b"it was corrected"),
        l4.orders("CCC", 51, 9, here=behind, previous=behind),
    )
    anew = next(call)
    assert (anew.height, anew.snapshot, [d.oid for d in anew.diffs]) == (51, True, [9])
    call.cancel()


def test_orders_of_several_coins_are_forgotten_once_and_a_hole_ends_the_call(
    own_edge: GrpcEdge, channel: grpc.Channel
) -> None:
    l4 = Calling(own_edge, channel, "StreamL4BookUpdates", "l4Diff")
    call = l4.call(coins=["AAA", "BBB"])
    l4.wait("AAA", "BBB")
    own_edge.publish(l4.orders("AAA", 50, 1), l4.orders("BBB", 50, 2))
    got = [next(call), next(call)]
    assert [(g.snapshot, g.diffs[0].coin, g.diffs[0].oid) for g in got] == [
        (True, "AAA", 1),
        (False, "BBB", 2),
    ]
    own_edge.publish(l4.changes("AAA", 51, o1="remove"), l4.changes("BBB", 51, o2="remove"))
    both = next(call)
    assert (both.height, [(d.diff_type, d.coin) for d in both.diffs]) == (
        51,
        [(REMOVE, "AAA"), (REMOVE, "BBB")],
    )
    lost = Envelope(l4.topic("AAA"), EPOCH, end_of(53), Position(51), Role.GAP, b"a file is late")
    own_edge.publish(lost)
    code, line = ended(call)
    assert code is grpc.StatusCode.DATA_LOSS
    assert line == (
        "Blocks 52 to 53 are missing here: a file is late."
        " Ask again: the call begins with all orders."
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_levels": 101}, "n_levels: 101 is not 1 to 100; 0 means 20"),
        ({"n_sig_figs": 6}, "n_sig_figs: 6 is not 2 to 5"),
        ({"mantissa": 2}, "mantissa: it goes with n_sig_figs 5 alone"),
        ({"n_sig_figs": 5, "mantissa": 3}, "mantissa: 3 is none of 1, 2, 5"),
    ],
)
def test_levels_that_cannot_be_meant(
    own_edge: GrpcEdge, channel: grpc.Channel, fields: dict[str, int], said: str
) -> None:
    diff = Calling(own_edge, channel, "StreamL2BookDiff", "l2Diff").call(coins=["AAA"], **fields)
    assert ended(diff) == (grpc.StatusCode.INVALID_ARGUMENT, said)
    book = Calling(own_edge, channel, "StreamL2Book", "l2Book").call(coin="AAA", **fields)
    assert ended(book) == (grpc.StatusCode.INVALID_ARGUMENT, said)


METHODS = [("StreamBboBook", "bbo"), ("StreamL2BookDiff", "l2Diff"),
           ("StreamL4BookUpdates", "l4Diff")]  # fmt: skip


@pytest.mark.parametrize(("method", "kind"), METHODS)
def test_coins_that_cannot_be_followed(
    own_edge: GrpcEdge, channel: grpc.Channel, method: str, kind: str
) -> None:
    calling = Calling(own_edge, channel, method, kind)
    refused = grpc.StatusCode.INVALID_ARGUMENT
    assert ended(calling.call(coins=["AAA", "NOPE"])) == (refused, 'There is no coin "NOPE".')
    many = ended(calling.call(coins=[f"{n:04}" for n in range(10_000)]))
    assert many == (
        refused,
        "coins: 10,000 are named; up to 1,000 can be, and none means all",
    )
    assert ended(calling.call(coins=[""]))[0] is refused


def test_all_coins_are_more_than_a_plan_may_allow(
    own_edge: GrpcEdge, channel: grpc.Channel, tmp_path: Path
) -> None:
    short = own_edge.shell(
        "from tenants.models import Plan, Quota\nfrom tenants.services import *\n"
        "plan = Plan.objects.create(code='two', name='two')\n"
        "Quota.objects.create(plan=plan, max_connections=9, max_subscriptions=2)\n"
        "print(issue_key(tenant=create_tenant(name='t', slug='t', plan=plan), name='t',"
        " scopes=['grpc']).raw)"
    )
    for method, kind in METHODS:
        code, line = ended(Calling(own_edge, channel, method, kind).call(short))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert line == (
            "The plan allows 2 subscriptions, this connection uses 0, and 3 more were asked for:"
            " none is made."
        )


def test_transactions_that_wait_are_refused_by_name(
    own_edge: GrpcEdge, channel: grpc.Channel
) -> None:
    call = channel.stream_stream(
        "/hyperliquid.Streaming/StreamData",
        request_serializer=QN["SubscribeRequest"].SerializeToString,
        response_deserializer=QN["SubscribeUpdate"].FromString,
    )
    asked = QN["SubscribeRequest"](subscribe=QN["StreamSubscribe"](stream_type=8))
    code, line = ended(call(iter([asked]), metadata=own_edge.metadata, timeout=DEADLINE_S))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert line.startswith("Type 8, transactions that wait")
