"""What customers' actions do to the simulated exchange, through signed bodies alone."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.signing.typed_data import Network
from streaming.simulator import Settings, Simulator
from streaming.simulator.trading.nonces import DAY_MS, KEPT, Nonces
from streaming.simulator.trading.wire import Unparsable
from tests.support.trading_floor import ALO, ETH, IOC, START_MS, START_NS, Floor, stop, wire
from tests.support.wallet import Wallet

CLOID = "0x" + "a1" * 16
NOT_PLACED = "Order was never placed, already canceled, or filled. asset=1"


@pytest.fixture
def floor() -> Floor:
    """A floor whose customer has asked for their balance, and so has one."""
    floor = Floor()
    assert floor.ask("clearinghouseState")["withdrawable"] == "10000.0"
    return floor


def oid(status: Any) -> int:
    (row,) = status.values()
    return int(row["oid"])


# --- determinism ----------------------------------------------------------------------------------


def test_blocks_of_a_seed_are_what_they_have_always_been() -> None:
    """Recorded truths rest on it. The digest is of the blocks before there was an /exchange."""
    simulator, digest = Simulator(Settings(seed=1, start_time_ns=START_NS)), hashlib.sha256()
    for _ in range(120):
        block = simulator.step()
        digest.update(repr((block.fills, block.diffs, block.statuses, block.misc)).encode())
    assert digest.hexdigest()[:32] == "8c527c76cd8ac9f9948bf5a186991c23"


def test_questions_and_refusals_leave_the_blocks_as_they_are() -> None:
    quiet, floor = Floor(), Floor()
    stranger = Wallet(b"\x09" * 32)
    for _ in range(20):
        floor.ask("clearinghouseState")
        reply = floor.act({"type": "noop"}, wallet=stranger)
        assert reply["response"] == f"User or API Wallet {stranger.address} does not exist."
        assert quiet.simulator.step() == floor.simulator.step()


# --- orders ---------------------------------------------------------------------------------------


def test_an_order_rests_is_seen_and_is_canceled(floor: Floor) -> None:
    (status,) = floor.order(wire("B", floor.px(0.95), "0.2", cloid=CLOID))
    assert status["resting"]["cloid"] == CLOID
    (shown,) = floor.ask("openOrders")
    assert (shown["oid"], shown["sz"], shown["cloid"]) == (oid(status), "0.2", CLOID)
    for key in (oid(status), CLOID):
        found = floor.ask("orderStatus", oid=key)
        assert (found["status"], found["order"]["status"]) == ("order", "open")
    block = floor.simulator.exchange.block
    assert any(diff["oid"] == oid(status) for diff in block.diffs)
    cancel = {"type": "cancel", "cancels": [{"a": ETH, "o": oid(status)}]}
    assert floor.act(cancel)["response"]["data"]["statuses"] == ["success"]
    assert floor.act(cancel)["response"]["data"]["statuses"] == [{"error": NOT_PLACED}]
    assert floor.ask("openOrders") == []
    assert floor.ask("orderStatus", oid=CLOID)["order"]["status"] == "canceled"


def test_an_order_that_crosses_is_filled_and_makes_a_position(floor: Floor) -> None:
    (status,) = floor.order(wire("B", floor.px(1.02), "0.2", IOC))
    assert status["filled"]["totalSz"] == "0.2"
    assert floor.szi() == "0.2"
    fills = floor.ask("userFills")
    assert sum(float(fill["sz"]) for fill in fills) == pytest.approx(0.2)
    assert {fill["dir"] for fill in fills} == {"Open Long"}
    block = floor.simulator.exchange.block
    mine = [fill for user, fill in block.fills if user == floor.wallet.address]
    assert len(mine) == len(fills)
    assert block.misc[0]["inner"]["LedgerUpdate"]["delta"] == {"type": "deposit", "usdc": "10000.0"}


def test_orders_that_the_exchange_refuses(floor: Floor) -> None:
    high, low = floor.px(1.02), floor.px(0.95)
    cases = [
        (wire("B", high, "0.1", ALO), "Post only order would have immediately matched, bbo was "),
        (wire("B", low, "0.1", IOC), "Order could not immediately match against any resting"),
        (wire("B", low, "0.001"), "Order must have minimum value of $10. asset=1"),
        (wire("B", low, "0.00001"), "Order has invalid size. asset=1"),
        (wire("B", low, "0"), "Order has zero size. asset=1"),
        (wire("B", low + ".123" if "." not in low else low + "1", "0.1"), "Price must be divisib"),
        (wire("B", low, "100000"), "Insufficient margin to place order. asset=1"),
        (wire("B", low, "0.1", reduce_only=True), "Reduce only order would increase position."),
        (wire("B", low, "0.1", stop(low)), "Invalid TP/SL price. asset=1"),
    ]
    for row, text in cases:
        (status,) = floor.order(row)
        assert status["error"].startswith(text), (row, status)
    assert floor.ask("openOrders") == []


def test_one_error_answers_for_a_batch_that_is_wrong_by_its_own_words(floor: Floor) -> None:
    good = wire("B", floor.px(0.95), "0.1")
    far = "Order price cannot be more than 80% away from the reference price"
    assert floor.order(good, wire("B", "100", "1")) == [{"error": far}]
    assert floor.order() == [{"error": "Batch is empty."}]
    assert floor.order(good, good, grouping="normalTpsl") == [
        {"error": "Unexpected number of trigger orders"}
    ]
    assert floor.ask("openOrders") == []


def test_statuses_stand_in_the_order_of_the_batch(floor: Floor) -> None:
    rows = [wire("B", floor.px(0.95), "0.1"), wire("B", floor.px(0.95), "0.001")]
    first, second, third = floor.order(*rows, wire("B", floor.px(1.02), "0.1", IOC))
    assert (list(first), list(second), list(third)) == (["resting"], ["error"], ["filled"])
    assert floor.ask("userRateLimit")["nRequestsUsed"] == 3


def test_modifying_replaces_and_says_when_there_is_nothing_to(floor: Floor) -> None:
    (placed,) = floor.order(wire("B", floor.px(0.95), "0.2", cloid=CLOID))
    row = wire("B", floor.px(0.94), "0.3", cloid=CLOID)
    assert floor.act({"type": "modify", "oid": oid(placed), "order": row}) == {
        "status": "ok",
        "response": {"type": "default"},
    }
    (shown,) = floor.ask("openOrders")
    assert (shown["sz"], shown["cloid"]) == ("0.3", CLOID)
    modifies = [{"oid": CLOID, "order": row}, {"oid": oid(placed), "order": row}]
    reply = floor.act({"type": "batchModify", "modifies": modifies})
    done, gone = reply["response"]["data"]["statuses"]
    assert "resting" in done
    assert gone == {"error": "Cannot modify canceled or filled order"}


def test_reduce_only_takes_no_more_than_the_position(floor: Floor) -> None:
    floor.order(wire("B", floor.px(1.02), "0.2", IOC))
    (status,) = floor.order(wire("A", floor.px(0.98), "5", IOC, reduce_only=True))
    assert status["filled"]["totalSz"] == "0.2"
    assert floor.szi() == "0.0"
    last = floor.ask("orderStatus", oid=oid(status))
    assert last["order"]["status"] == "reduceOnlyCanceled"


def test_a_resting_reduce_only_order_ends_with_its_position(floor: Floor) -> None:
    floor.order(wire("B", floor.px(1.02), "0.2", IOC))
    (resting,) = floor.order(wire("A", floor.px(1.05), "0.2", reduce_only=True))
    floor.order(wire("A", floor.px(0.98), "0.2", IOC))
    floor.simulator.step()
    assert floor.ask("openOrders") == []
    last = floor.ask("orderStatus", oid=oid(resting))
    assert last["order"]["status"] == "reduceOnlyCanceled"


def test_a_stop_waits_fires_and_closes(floor: Floor) -> None:
    floor.order(wire("B", floor.px(1.02), "0.2", IOC))
    row = wire("A", floor.px(0.9), "0.2", stop(floor.px(0.9999)), reduce_only=True)
    (status,) = floor.order(row)
    (shown,) = floor.ask("frontendOpenOrders")
    assert (shown["isTrigger"], shown["orderType"]) == (True, "Stop Market")
    floor.slump()
    assert floor.ask("orderStatus", oid=oid(status))["order"]["status"] == "filled"
    assert (floor.szi(), floor.ask("frontendOpenOrders")) == ("0.0", [])


def test_of_a_stop_and_a_take_profit_one_ends_the_other(floor: Floor) -> None:
    entry = wire("B", floor.px(1.02), "0.2", IOC)
    take = wire("A", floor.px(1.5), "0.2", stop(floor.px(1.5), "tp"), reduce_only=True)
    loss = wire("A", floor.px(0.9), "0.2", stop(floor.px(0.9999)), reduce_only=True)
    first, *exits = floor.order(entry, take, loss, grouping="normalTpsl")
    assert "filled" in first
    assert exits == ["waitingForTrigger", "waitingForTrigger"]
    floor.slump()
    ended = {row["order"]["orderType"]: row["status"] for row in floor.ask("historicalOrders")}
    assert ended["Stop Market"] == "filled"
    assert ended["Take Profit Market"] == "siblingFilledCanceled"


def test_exits_wait_for_an_entry_that_rests(floor: Floor) -> None:
    entry = wire("B", floor.px(0.95), "0.2")
    loss = wire("A", floor.px(0.8), "0.2", stop(floor.px(0.9)), reduce_only=True)
    assert floor.order(entry, loss, grouping="normalTpsl")[1] == "waitingForFill"
    (shown,) = floor.ask("frontendOpenOrders")
    assert [child["orderType"] for child in shown["children"]] == ["Stop Market"]


def test_no_more_than_a_thousand_open_orders(floor: Floor) -> None:
    row = wire("B", floor.px(0.5), "0.01", asset=ETH)
    batch = [row] * 500
    for _ in range(2):
        assert all("resting" in status for status in floor.order(*batch))
    (status,) = floor.order(row)
    assert status["error"].startswith("Too many open orders")


def test_a_dead_mans_switch_ends_every_order(floor: Floor) -> None:
    floor.order(wire("B", floor.px(0.95), "0.2"))
    soon = floor.simulator.exchange.block.time_ms + 4_000
    assert floor.act({"type": "scheduleCancel", "time": soon})["status"] == "err"
    assert floor.act({"type": "scheduleCancel", "time": soon + 1_500})["status"] == "ok"
    for _ in range(90):
        floor.simulator.step()
    assert floor.ask("openOrders") == []
    (row,) = floor.ask("historicalOrders")
    assert row["status"] == "scheduledCancel"


def test_a_twap_works_in_slices_and_can_be_called_off(floor: Floor) -> None:
    twap = {"a": ETH, "b": True, "s": "1", "r": False, "m": 5, "t": False}
    reply = floor.act({"type": "twapOrder", "twap": twap})
    number = reply["response"]["data"]["status"]["running"]["twapId"]
    floor.simulator.step()
    assert [row["twapId"] for row in floor.ask("userTwapSliceFills")][:1] == [number]
    cancel = {"type": "twapCancel", "a": ETH, "t": number}
    assert floor.act(cancel)["response"]["data"]["status"] == "success"
    assert "error" in floor.act(cancel)["response"]["data"]["status"]
    assert floor.szi() == "0.1"


def test_the_market_lives_on_around_a_customers_orders(floor: Floor) -> None:
    """Nobody's far order is dropped for being far, and nobody quotes behind it."""
    far, high = floor.px(0.4), floor.px(1.7)
    floor.order(wire("B", far, "0.1"), wire("A", high, "0.1"))
    floor.slump()
    for _ in range(60):
        floor.simulator.step()
    assert {order["limitPx"] for order in floor.ask("openOrders")} == {
        f"{far}.0" if "." not in far else far,
        f"{high}.0" if "." not in high else high,
    }
    book = floor.simulator.exchange.books["ETH"]
    bid, ask = book.bids.best, book.asks.best
    assert bid is not None
    assert ask is not None
    assert 1 < ask.px / bid.px < 1.005
    levels = [level.px for level in book.bids]
    assert min(levels[:-1]) > bid.px * 0.9


# --- margin and money -----------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "factor"), [("B", 0.99), ("A", 1.01)])
def test_leverage_decides_how_much_can_be_traded(floor: Floor, side: str, factor: float) -> None:
    row = wire(side, floor.px(factor), "10")  # about 29,000 USDC
    set_leverage = {"type": "updateLeverage", "asset": ETH, "isCross": True, "leverage": 2}
    assert floor.act(set_leverage)["status"] == "ok"
    assert "error" in floor.order(row)[0]
    assert floor.act(set_leverage | {"leverage": 5})["status"] == "ok"
    assert "resting" in floor.order(row)[0]
    assert floor.act(set_leverage | {"leverage": 2})["status"] == "err"
    assert floor.act(set_leverage | {"leverage": 99})["response"] == "Invalid leverage value"


def test_isolated_margin_is_added_and_taken_back(floor: Floor) -> None:
    isolated = {"type": "updateLeverage", "asset": ETH, "isCross": False, "leverage": 5}
    floor.act(isolated)
    floor.order(wire("B", floor.px(1.02), "1", IOC))

    def used() -> float:
        (row,) = floor.ask("clearinghouseState")["assetPositions"]
        assert row["position"]["leverage"]["type"] == "isolated"
        return float(row["position"]["marginUsed"])

    before, change = used(), {"type": "updateIsolatedMargin", "asset": ETH, "isBuy": True}
    assert floor.act(change | {"ntli": 100_000_000})["status"] == "ok"
    assert used() == pytest.approx(before + 100)
    assert floor.act(change | {"ntli": -100_000_000})["status"] == "ok"
    assert used() == pytest.approx(before)
    assert floor.act(change | {"ntli": 10**12})["status"] == "err"
    assert floor.act(isolated | {"isCross": True})["status"] == "err"


def test_money_is_sent_moved_and_withdrawn(floor: Floor) -> None:
    friend = "0x" + "fe" * 20
    send = {"destination": ("string", friend), "amount": ("string", "100.5")}
    assert floor.sign("usdSend", "UsdSend", send)["status"] == "ok"
    other = floor.ask("clearinghouseState", user=friend)
    assert other["withdrawable"] == "100.5"
    move = {"amount": ("string", "200"), "toPerp": ("bool", False)}
    assert floor.sign("usdClassTransfer", "UsdClassTransfer", move)["status"] == "ok"
    (spot,) = floor.ask("spotClearinghouseState")["balances"]
    assert (spot["coin"], spot["total"]) == ("USDC", "200.0")
    out = {"destination": ("string", friend), "amount": ("string", "50")}
    assert floor.sign("withdraw3", "Withdraw", out)["status"] == "ok"
    assert floor.ask("clearinghouseState")["withdrawable"] == "9649.5"
    kinds = [row["delta"]["type"] for row in floor.ask("userNonFundingLedgerUpdates", startTime=0)]
    assert kinds == ["deposit", "internalTransfer", "accountClassTransfer", "withdraw"]
    send["amount"] = ("string", "10000")
    assert floor.sign("usdSend", "UsdSend", send)["status"] == "err"


def test_a_builder_is_paid_only_where_approved(floor: Floor) -> None:
    builder = "0x" + "bb" * 20
    rows, extra = [wire("B", floor.px(0.95), "0.1")], {"b": builder, "f": 10}
    order = {"type": "order", "orders": rows, "grouping": "na", "builder": extra}
    assert floor.act(order)["response"] == "Builder fee has not been approved."
    fields = {"maxFeeRate": ("string", "0.01%"), "builder": ("address", builder)}
    assert floor.sign("approveBuilderFee", "ApproveBuilderFee", fields)["status"] == "ok"
    assert floor.ask("maxBuilderFee", builder=builder) == 10
    assert floor.act(order)["status"] == "ok"
    assert floor.act(order | {"builder": extra | {"f": 11}})["status"] == "err"


# --- who may act ----------------------------------------------------------------------------------


def approve(floor: Floor, agent: Wallet, name: str = "") -> Any:
    fields = {"agentAddress": ("address", agent.address), "agentName": ("string", name)}
    return floor.sign("approveAgent", "ApproveAgent", fields)


def test_an_agent_trades_for_its_master_and_moves_no_money(floor: Floor) -> None:
    agent, action = Wallet(b"\x21" * 32), {"type": "noop"}
    missing = f"User or API Wallet {agent.address} does not exist."
    assert floor.act(action, wallet=agent)["response"] == missing
    assert approve(floor, agent, "bot")["status"] == "ok"
    assert floor.act(action, wallet=agent)["status"] == "ok"
    assert floor.ask("userRole", user=agent.address) == {
        "role": "agent",
        "data": {"user": floor.wallet.address},
    }
    assert floor.ask("extraAgents") == [
        {"name": "bot", "address": agent.address, "validUntil": None}
    ]
    row = wire("B", floor.px(0.95), "0.1")
    floor.act({"type": "order", "orders": [row], "grouping": "na"}, wallet=agent)
    assert len(floor.ask("openOrders")) == 1
    master, floor.wallet = floor.wallet, agent
    send = {"destination": ("string", master.address), "amount": ("string", "1")}
    refused = floor.sign("usdSend", "UsdSend", send)["response"]
    assert refused == f"Must deposit before performing actions. User: {agent.address}"


def test_another_agent_of_the_same_name_takes_the_place_of_the_first(floor: Floor) -> None:
    first, second = Wallet(b"\x21" * 32), Wallet(b"\x22" * 32)
    approve(floor, first)
    approve(floor, second)
    assert floor.act({"type": "noop"}, wallet=first)["status"] == "err"
    assert floor.act({"type": "noop"}, wallet=second)["status"] == "ok"


def test_an_agents_time_runs_out(floor: Floor) -> None:
    agent = Wallet(b"\x21" * 32)
    until = floor.simulator.exchange.block.time_ms + 500
    approve(floor, agent, f"bot valid_until {until}")
    assert floor.act({"type": "noop"}, wallet=agent)["status"] == "ok"
    for _ in range(8):
        floor.simulator.step()
    assert floor.act({"type": "noop"}, wallet=agent)["status"] == "err"


def test_a_signature_for_the_other_network_is_a_strangers(floor: Floor) -> None:
    """The python SDK's trap: what it signs for a base URL that it does not know."""
    testnet = Wallet(b"\x07" * 32, is_mainnet=False)
    reply = floor.act({"type": "noop"}, wallet=testnet)
    assert reply["status"] == "err"
    assert reply["response"].startswith("User or API Wallet 0x")
    assert testnet.address not in reply["response"]
    other = Floor(network=Network.TESTNET)
    other.ask("clearinghouseState")
    assert other.act({"type": "noop"}, wallet=testnet)["status"] == "ok"
    assert other.act({"type": "noop"})["status"] == "err"


def test_vaults_are_not_here_and_expired_actions_are_not_run(floor: Floor) -> None:
    vault = "0x" + "aa" * 20
    assert floor.act({"type": "noop"}, vault=vault)["response"] == f"Vault not registered: {vault}"
    rows = [wire("B", floor.px(0.95), "0.1")] * 2
    order = {"type": "order", "orders": rows, "grouping": "na"}
    assert floor.act(order, expires_after=START_MS - 1)["response"].startswith("Action expired")
    assert floor.ask("userRateLimit")["nRequestsUsed"] == 10  # five times the batch
    assert floor.ask("openOrders") == []


def test_an_address_that_has_used_its_requests_up_is_told_so(floor: Floor) -> None:
    floor.order(wire("B", floor.px(0.95), "0.1"))
    floor.simulator.accounts[floor.wallet.address].requests = 10_000
    leverage = {"type": "updateLeverage", "asset": ETH, "isCross": True, "leverage": 3}
    assert floor.act(leverage)["status"] == "ok"  # one in ten seconds
    assert floor.act(leverage)["response"].startswith(
        "Too many cumulative requests sent (10002 > 10000) for cumulative volume traded $0.00."
    )
    (order,) = floor.ask("openOrders")
    cancel = {"type": "cancel", "cancels": [{"a": ETH, "o": order["oid"]}]}
    assert floor.act(cancel)["response"]["data"]["statuses"] == ["success"]


def test_nonces_are_used_once_and_may_come_out_of_order() -> None:
    nonces, now_ms = Nonces(), START_MS
    for nonce in (now_ms, now_ms - 5, now_ms + 5):
        assert nonces.take(nonce, now_ms=now_ms) is None
    assert nonces.take(now_ms, now_ms=now_ms) == f"Invalid nonce: duplicate nonce {now_ms}"
    for nonce in range(now_ms + 10, now_ms + 10 + KEPT):
        assert nonces.take(nonce, now_ms=now_ms) is None
    for lost in (now_ms + 5, now_ms - 6, now_ms + 9):
        assert nonces.take(lost, now_ms=now_ms) is not None
    for far in (now_ms - 2 * DAY_MS, now_ms + DAY_MS):
        assert Nonces().take(far, now_ms=now_ms) is not None
    assert Nonces().take(now_ms - 2 * DAY_MS + 1, now_ms=now_ms) is None


def test_the_same_body_counts_once(floor: Floor) -> None:
    row = wire("B", floor.px(0.95), "0.1")
    action = {"type": "order", "orders": [row], "grouping": "na"}
    body = floor.wallet.l1(action, nonce=START_MS + 50)
    assert floor.send(body)["status"] == "ok"
    assert floor.send(body)["response"] == f"Invalid nonce: duplicate nonce {START_MS + 50}"
    assert len(floor.ask("openOrders")) == 1


ORDER: dict[str, Any] = {"type": "order", "orders": [], "grouping": "na"}
NONCES = itertools.count(START_MS + 1_000)


@functools.cache
def shared_floor() -> Floor:
    """One for every example: what one does to it must not break the next."""
    floor = Floor()
    floor.ask("clearinghouseState")
    return floor


@pytest.mark.parametrize(
    "action",
    [
        {"type": "nope"},
        {"type": "order"},
        ORDER | {"grouping": "x"},
        ORDER | {"orders": [{"a": 1}]},
        ORDER | {"orders": [wire("B", "1e3", "1")]},
        ORDER | {"orders": [wire("B", "100", "1", {"limit": {"tif": "Fok"}})]},
        ORDER | {"orders": [wire("B", "100", "1", cloid="0x12")]},
        ORDER | {"builder": {"b": "x", "f": 1}},
        {"type": "cancel", "cancels": [{"a": 1, "o": "1"}]},
        {"type": "updateLeverage", "asset": 1, "isCross": 1, "leverage": 2},
        {"type": "modify", "oid": "zzz", "order": wire("B", "100", "1")},
    ],
)
def test_what_the_exchange_cannot_read(floor: Floor, action: dict[str, Any]) -> None:
    with pytest.raises(Unparsable):
        floor.act(action)


REPLACEMENTS = st.sampled_from(
    (None, True, -1, 0, 1, 2**64, 1.5, "", "0x", "1e9", "-1", "0.1", [], {}, [[]], [{}], "na")
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_body_breaks_the_desk(data: st.DataObject) -> None:
    """Whatever stands in any one place of a body: a reply, or the exchange's 422."""
    rows = [wire("B", "2800", "0.1", cloid=CLOID), wire("A", "3000", "0.1", stop("3000", "tp"))]
    body = data.draw(
        st.sampled_from(
            (
                ORDER | {"orders": rows, "builder": {"b": "0x" + "1" * 40, "f": 1}},
                {"type": "cancel", "cancels": [{"a": 1, "o": 1}]},
                {"type": "modify", "oid": 1, "order": rows[0]},
                {"type": "updateIsolatedMargin", "asset": 1, "isBuy": True, "ntli": 5},
                {"type": "twapOrder", "twap": rows[0] | {"m": 5, "t": True, "s": "1"}},
                {"type": "scheduleCancel", "time": START_MS + 60_000},
                {"type": "usdSend", "destination": CLOID, "amount": "1", "time": 1},
                {"type": "approveAgent", "agentAddress": CLOID, "agentName": "x", "nonce": 1},
            )
        ).map(lambda action: shared_floor().wallet.l1(deepcopy(action), nonce=next(NONCES)))
    )
    place: Any = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        is_leaf = not isinstance(place[key], dict | list) or not place[key]
        if is_leaf or data.draw(st.booleans()):
            place[key] = data.draw(REPLACEMENTS)
            break
        place = place[key]
    # The signature of what is sent, so that it comes past the door where it can.
    with contextlib.suppress(TypeError, KeyError, AttributeError, OverflowError, ValueError):
        body = shared_floor().wallet.l1(body["action"], nonce=body["nonce"])
    try:
        assert shared_floor().send(body)["status"] in ("ok", "err")
    except Unparsable:
        pass


def test_without_a_faucet_nobody_is_given_anything() -> None:
    floor = Floor(faucet_usdc=0)
    assert floor.ask("clearinghouseState")["withdrawable"] == "0.0"
    assert floor.act({"type": "noop"})["status"] == "err"
    assert floor.ask("simFaucet", usdc=500) == {"usdc": "500.0"}
    assert floor.act({"type": "noop"})["status"] == "ok"
