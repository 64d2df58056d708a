"""What the simulator tells of users: money without trades, TWAPs, states; files and feeds agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from streaming.simulator import Block, Settings, Simulator
from streaming.simulator.engine.accounts import Account, Role
from streaming.simulator.engine.block import Stream
from streaming.simulator.files.writer import Mode
from streaming.simulator.servers import user_feeds
from streaming.simulator.servers.dialect import normalise
from streaming.simulator.servers.feeds import ExchangeFeeds
from streaming.simulator.servers.info import NOT_AT_NODES, ExchangeInfo

START_NS = 1_790_000_000_000_000_000
FUNDING_S = 20.0
BLOCKS = 1_600  # 112 s: five fundings, two ends of a TWAP, 39 ledger rows


@pytest.fixture(scope="module")
def history() -> tuple[Simulator, list[Block]]:
    """A simulation and all its blocks."""
    simulator = Simulator(Settings(seed=7, start_time_ns=START_NS, funding_every_s=FUNDING_S))
    return simulator, [simulator.step() for _ in range(BLOCKS)]


def inner(blocks: list[Block], kind: str) -> Iterator[tuple[Block, dict]]:
    for block in blocks:
        for event in block.misc:
            assert list(event) == ["time", "hash", "inner"]
            if kind in event["inner"]:  # type: ignore[operator]
                yield block, event["inner"][kind]  # type: ignore[index]


def test_fundings_are_zero_sum_but_for_rounding(history: tuple[Simulator, list[Block]]) -> None:
    _, blocks = history
    rounds = list(inner(blocks, "Funding"))
    assert len(rounds) == 5
    for _, funding in rounds:
        by_coin: dict[str, list[Decimal]] = {}
        for delta in funding["deltas"]:
            assert list(delta) == ["user", "coin", "funding_amount", "szi", "funding_rate"]
            amount, rate = Decimal(delta["funding_amount"]), Decimal(delta["funding_rate"])
            # Longs pay when the rate is positive.
            assert amount * Decimal(delta["szi"]) * rate <= 0
            by_coin.setdefault(delta["coin"], []).append(amount)
        for amounts in by_coin.values():
            assert abs(sum(amounts)) <= Decimal("0.000001") * len(amounts)


def test_a_users_feed_says_what_the_files_say(history: tuple[Simulator, list[Block]]) -> None:
    simulator, blocks = history
    for user, account in simulator.accounts.items():
        paid = [
            (block.time_ms, d["coin"], d["funding_amount"], d["szi"], d["funding_rate"])
            for block, funding in inner(blocks, "Funding")
            for d in funding["deltas"]
            if d["user"] == user
        ]
        keys = ("time", "coin", "usdc", "szi", "fundingRate")
        assert [tuple(row[key] for key in keys) for row in account.fundings] == paid
        moved = [
            (block.time_ms, update["delta"])
            for block, update in inner(blocks, "LedgerUpdate")
            if user in update["users"]
        ]
        assert [(row["time"], row["delta"]) for row in account.ledger] == moved
    assert sum(len(a.ledger) for a in simulator.accounts.values()) > 30


def test_every_dollar_is_accounted_for(history: tuple[Simulator, list[Block]]) -> None:
    """A user's cash is what they began with, what trades left, fundings, and the ledger."""
    simulator, blocks = history
    for user, account in simulator.accounts.items():
        began = 50_000_000 if account.role is Role.MAKER else 2_000_000
        cash = Decimal(began)
        for block in blocks:
            for who, fill in block.fills:
                coin = simulator.exchange.coins[str(fill["coin"])]
                if who == user and not coin.is_spot:
                    cash += Decimal(str(fill["closedPnl"])) - Decimal(str(fill["fee"]))
        cash += sum(Decimal(str(row["usdc"])) for row in account.fundings)
        cash += sum(_to_perp(row["delta"], user) for row in account.ledger)  # type: ignore[arg-type]
        assert abs(cash - Decimal(account.usdc) / 10**6) < Decimal("0.001")


def _to_perp(delta: dict, user: str) -> Decimal:
    match delta["type"]:
        case "deposit":
            return Decimal(delta["usdc"])
        case "withdraw":
            return -Decimal(delta["usdc"]) - Decimal(delta["fee"])
        case "accountClassTransfer":
            return Decimal(delta["usdc"]) * (1 if delta["toPerp"] else -1)
        case "send":
            return Decimal(delta["amount"]) * (1 if delta["destination"] == user else -1)
    return Decimal(0)


def test_a_twap_ends_with_the_sum_of_its_slices(history: tuple[Simulator, list[Block]]) -> None:
    simulator, blocks = history
    fills: dict[int, Decimal] = {}
    ended = []
    for block in blocks:
        for _, fill in block.fills:
            if fill["twapId"] is not None:
                number = int(str(fill["twapId"]))
                fills[number] = fills.get(number, Decimal(0)) + Decimal(str(fill["sz"]))
        for event in block.twaps:
            assert list(event) == ["time", "twap_id", "state", "status"]
            if event["status"] != "activated":
                ended.append(event["status"])
                state = event["state"]
                executed = Decimal(state["executedSz"])  # type: ignore[index]
                assert executed == fills[int(str(event["twap_id"]))]
    assert set(ended) == {"finished", "terminated"}
    twapper = next(a for a in simulator.accounts.values() if a.role is Role.TWAP)
    assert [row["twapId"] for row in twapper.twaps] == [
        event["twap_id"] for block in blocks for event in block.twaps
    ]


@pytest.mark.parametrize("kind", sorted(user_feeds.ITEMS))
def test_snapshot_and_updates_are_the_next_snapshot(kind: str) -> None:
    simulator = Simulator(Settings(seed=7, start_time_ns=START_NS, funding_every_s=5))
    feeds = ExchangeFeeds(simulator)
    for _ in range(40):
        simulator.step()
    users = _some_of_each(simulator)
    wanted = {
        str(number): normalise({"type": kind, "user": user}) for number, user in enumerate(users)
    }

    def rows(data: dict) -> list:
        return [orjson.dumps(row) for row in data[user_feeds.ITEMS[kind]]]

    known = {}
    for route, subscription in wanted.items():
        [first] = feeds.first_frames(subscription)
        body = orjson.loads(first)
        assert body["channel"] == kind
        assert list(body["data"]) == ["isSnapshot", "user", user_feeds.ITEMS[kind]]
        known[route] = rows(body["data"])[::-1]
    for _ in range(400):
        for route, payload in feeds.block_frames(simulator.step(), list(wanted.items())):
            body = orjson.loads(payload)
            assert list(body["data"]) == ["user", user_feeds.ITEMS[kind]]
            known[route] += rows(body["data"])
    for route, subscription in wanted.items():
        [last] = feeds.first_frames(subscription)
        fresh = rows(orjson.loads(last)["data"])[::-1]
        if kind == "userHistoricalOrders":  # the list has the last status of an order alone
            assert set(fresh) <= set(known[route])
        else:
            assert known[route][-len(fresh) :] == fresh or not fresh


@pytest.mark.parametrize("kind", sorted(user_feeds.STATES))
def test_a_state_is_sent_at_once_and_when_it_changed(kind: str) -> None:
    simulator = Simulator(Settings(seed=7, start_time_ns=START_NS))
    feeds = ExchangeFeeds(simulator)
    for _ in range(60):
        simulator.step()
    user = _some_of_each(simulator)[0]
    asked: dict[str, object] = {"type": kind, "user": user}
    if kind == "activeAssetData":
        asked["coin"] = "BTC"
    subscription = normalise(asked)
    assert feeds.is_known(subscription)
    [first] = feeds.first_frames(subscription)
    assert orjson.loads(first)["channel"] == kind
    payloads = [
        user_feeds.without_clocks(orjson.loads(payload))
        for _ in range(70)
        for _, payload in feeds.block_frames(simulator.step(), [("a", subscription)])
    ]
    assert len(payloads) <= 5
    assert all(a != b for a, b in itertools.pairwise(payloads))


def test_a_nodes_info_refuses_what_nodes_refuse() -> None:
    simulator = Simulator(Settings(seed=7, start_time_ns=START_NS))
    simulator.step()
    node, public = ExchangeInfo(simulator, like_node=True), ExchangeInfo(simulator)
    for kind in NOT_AT_NODES:
        assert node.answer({"type": kind}).status == 422
    user = _some_of_each(simulator)[0]
    assert b"assetCtxs" not in node.answer({"type": "webData2", "user": user}).body
    assert b"assetCtxs" in public.answer({"type": "webData2", "user": user}).body
    users = orjson.loads(public.answer({"type": "simUsers"}).body)
    assert users == list(simulator.accounts)


def test_rare_streams_are_written_with_a_line_a_block(tmp_path: Path) -> None:
    settings = Settings(seed=7, start_time_ns=START_NS, mode=Mode.BOTH, funding_every_s=1)
    simulator = Simulator(settings, dir=tmp_path, now_ns=lambda: START_NS + 10**9)
    blocks = [simulator.step() for _ in range(90)]
    simulator.close()
    for stream in (Stream.MISC, Stream.TWAPS, Stream.SYSTEM, Stream.ORACLE):
        expected = [block.events(stream) for block in blocks]
        [file] = (tmp_path / f"{stream}_by_block" / "hourly").glob("*/*")
        lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        assert [line["block_number"] for line in lines] == [block.height for block in blocks]
        assert [line["events"] for line in lines] == expected
        flat = [[event] for events in expected for event in events]
        files = (tmp_path / f"{stream}_streaming" / "hourly").glob("*/*")
        streamed = [
            orjson.loads(line)["events"] for f in files for line in f.read_bytes().splitlines()
        ]
        assert streamed == flat


def test_blocks_as_transactions(tmp_path: Path) -> None:
    settings = Settings(seed=7, start_time_ns=START_NS, replica_cmds=True)
    simulator = Simulator(settings, dir=tmp_path, now_ns=lambda: START_NS + 10**9)
    blocks = [simulator.step() for _ in range(30)]
    simulator.close()
    [file] = (tmp_path / "replica_cmds").glob("*/*/*")
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert str(file.relative_to(tmp_path / "replica_cmds")) == (
        f"2026-09-21T14:13:21Z/20260921/{blocks[0].height - 1}"
    )
    for block, line in zip(blocks, lines, strict=True):
        sent = [
            signed["action"]
            for _, bundle in line["abci_block"]["signed_action_bundles"]
            for signed in bundle["signed_actions"]
        ]
        assert line["abci_block"]["round"] != block.height
        # What the block says happened to orders that users sent or took back.
        canceled = {str(c["o"]) for a in sent if a["type"] == "cancel" for c in a["cancels"]}
        gone = {
            str(s["order"]["oid"])  # type: ignore[index]
            for s in block.statuses
            if s["status"] == "canceled" and s["order"]["tif"] != "Ioc"  # type: ignore[index]
        }
        assert gone == canceled
        cloids = {o.get("c") for a in sent if a["type"] == "order" for o in a["orders"]}
        opened = {
            s["order"]["cloid"]  # type: ignore[index]
            for s in block.statuses
            if s["status"] == "open" and not s["order"]["isTrigger"]  # type: ignore[index]
        }
        assert opened <= cloids | {None}


def _some_of_each(simulator: Simulator) -> list[str]:
    found: dict[Role, Account] = {}
    for account in simulator.accounts.values():
        found.setdefault(account.role, account)
    return [account.address for account in found.values()]
