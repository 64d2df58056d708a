"""Guard rails: what they stop, what they let pass, and that nothing slips by what is not read."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import asked, rails
from gateway.exchange.asked import BadAction
from tenants.admission.rails import Rails

COINS = {0: "BTC", 4: "ETH", 110_000: "xyz:GOLD"}
PRICES = {"BTC": Decimal(100_000), "ETH": Decimal(4_000)}
SIGNER = "0x" + "ab" * 20


def order(**given: Any) -> dict[str, Any]:
    return {
        **{"a": 4, "b": True, "p": "4000", "s": "1", "r": False, "t": {"limit": {"tif": "Gtc"}}},
        **given,
    }


def body(action: dict[str, Any], **given: Any) -> bytes:
    signature = {"r": "0x1", "s": "0x2", "v": 27}
    return orjson.dumps({"action": action, "nonce": 1, "signature": signature, **given})


def placing(*orders: dict[str, Any]) -> bytes:
    return body({"type": "order", "orders": list(orders), "grouping": "na"})


def check(sent: bytes, set_: Rails, *, signers: tuple[str, ...] = ()) -> Decimal:
    return rails.check(
        asked.read(sent), set_, signers=signers, coin_of=COINS.get, price_of=PRICES.get
    )


def stopped(sent: bytes, set_: Rails, *, signers: tuple[str, ...] = ()) -> str:
    with pytest.raises(rails.Refused) as refused:
        check(sent, set_, signers=signers)
    return str(refused.value)


CANCEL = body({"type": "cancel", "cancels": [{"a": 0, "o": 7}]})
SEND = body({"type": "usdSend", "destination": "0x1", "amount": "5", "time": 1})


def test_the_kill_switch_stops_everything_and_cancels_only_lets_cancels_through() -> None:
    for sent in (placing(order()), CANCEL, SEND):
        assert "kill switch" in stopped(sent, Rails(is_killed=True))
    only = Rails(is_cancel_only=True)
    check(CANCEL, only)
    for sent in (placing(order()), SEND):
        assert "Only cancels" in stopped(sent, only)


def test_actions_coins_and_signers_that_are_not_listed() -> None:
    assert "'usdSend'" in stopped(SEND, Rails(kinds=frozenset({"order", "cancel"})))
    btc = Rails(coins=frozenset({"BTC"}))
    assert stopped(placing(order(a=0), order()), btc).startswith("ETH is not an allowed coin")
    assert "asset 77 is is not known" in stopped(placing(order(a=77)), btc)
    lever = body({"type": "updateLeverage", "asset": 4, "isCross": True, "leverage": 3})
    assert stopped(lever, btc).startswith("ETH")
    known = Rails(signers=frozenset({SIGNER}))
    check(CANCEL, known, signers=(SIGNER,))
    assert "not an allowed signer" in stopped(CANCEL, known, signers=("0x" + "cd" * 20,))
    assert "nobody" in stopped(CANCEL, known)


@pytest.mark.parametrize("set_", [Rails(coins=frozenset({"BTC"})), Rails(max_order_usd=Decimal(1))])
def test_what_takes_back_always_passes_and_what_cannot_be_read_never(set_: Rails) -> None:
    for cancel in (
        {"type": "cancel", "cancels": [{"a": 4, "o": 7}, {"a": 77, "o": 8}]},
        {"type": "cancelByCloid", "cancels": [{"a": 0, "asset": 4, "cloid": "0x1"}]},
        {"type": "scheduleCancel", "time": 1},
    ):
        check(body(cancel), set_)
    for other in ("spotSend", "withdraw3", "vaultTransfer", "userOutcome", "sendAsset"):
        sent = body({"type": other, "amount": "1000000", "token": "HYPE"})
        assert "allow that type of action by name" in stopped(sent, set_)
        check(sent, replace(set_, kinds=frozenset({other})))


def test_a_sale_is_worth_what_the_market_pays_not_its_limit() -> None:
    most = Rails(max_order_usd=Decimal(5_000))
    assert check(placing(order()), most) == 4_000
    assert "8000.00 USD" in stopped(placing(order(p="8000")), most)
    assert "40000.00 USD" in stopped(placing(order(b=False, p="0.01", s="10")), most)
    # Nobody knows what gold costs: a purchase costs its limit at most, a sale may bring anything.
    assert check(placing(order(a=110_000, p="1000")), most) == 1_000
    assert "not known" in stopped(placing(order(a=110_000, b=False, p="1")), most)
    # What waits for a trigger is filled there, and a TWAP has no limit, whatever is written in one.
    stop = {"trigger": {"isMarket": True, "triggerPx": "400000", "tpsl": "sl"}}
    assert "400000.00 USD" in stopped(placing(order(p="0.1", t=stop)), most)
    cheap = {"trigger": {"isMarket": True, "triggerPx": "0.1", "tpsl": "sl"}}
    assert "not known" in stopped(placing(order(a=110_000, p="0.1", t=cheap)), most)
    twap = {"a": 4, "b": True, "s": "2", "r": False, "m": 30, "t": False, "p": "0.000001"}
    assert "8000.00" in stopped(body({"type": "twapOrder", "twap": twap}), most)
    modify = {"oid": 5, "order": order(s="2")}
    assert "8000.00" in stopped(body({"type": "modify", **modify}), most)
    assert "8000.00" in stopped(body({"type": "batchModify", "modifies": [modify]}), most)


def test_a_multi_signature_is_looked_into() -> None:
    inner = {"type": "order", "orders": [order(s="9")], "grouping": "na"}
    sent = body({"type": "multiSig", "payload": {"action": inner}, "signatures": []})
    assert "36000.00" in stopped(sent, Rails(max_order_usd=Decimal(5_000)))
    assert "'order'" in stopped(sent, Rails(kinds=frozenset({"multiSig"})))
    assert asked.read(sent).weight == 1
    with pytest.raises(BadAction, match="multiSig"):
        check(body({"type": "multiSig"}), Rails(max_order_usd=Decimal(1)))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 10**6), st.integers(1, 10**6)), max_size=50),
    st.integers(0, 10**9),
)
def test_what_passes_a_limit_of_a_minute_is_within_it(
    rows: list[tuple[bool, int, int]], most: int
) -> None:
    sent = placing(*(order(b=buys, p=str(p), s=str(s)) for buys, p, s in rows))
    worth = sum(max(p, 4_000) * s for _, p, s in rows)
    set_ = Rails(max_minute_usd=Decimal(most))
    if worth > most:
        assert "a minute" in stopped(sent, set_)
    else:
        assert check(sent, set_) == worth


def test_what_only_reduces_does_not_count_for_the_minute() -> None:
    minute = Rails(max_minute_usd=Decimal(1))
    assert check(placing(order(r=True, s="9")), minute) == 0
    # Also of what nobody knows the price of now: a way out stays open.
    assert check(placing(order(a=110_000, b=False, r=True)), minute) == 0
    # Spot has no position to reduce.
    assert "not known" in stopped(placing(order(a=10_107, b=False, r=True)), minute)


def test_the_key_that_comes_twice_is_looked_for_once() -> None:
    """Each name was compared with all others: 30,000 of them took 20 s, in the loop."""
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Name(n) for n in range(2_000)]
    with pytest.raises(BadAction, match="'1999' comes twice"):
        asked._once([(name, 0) for name in [*names, Name(1_999)]])
    assert compared < 10 * len(names)


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[]", "object"),
        (b"[" * 100_000, "depth limit"),
        (b'{"action":{"type":"noop"},"nonce":NaN,"signature":{}}', "not JSON"),
        (b'{"action":{"type":"noop"},"nonce":true,"signature":{}}', "nonce"),
        (b'{"action":{"type":"noop"},"nonce":1}', "signature"),
        (
            b'{"action":{"type":"noop","type":"order"},"nonce":1,"signature":{}}',
            "'type' comes twice",
        ),
        (b'{"action":{},"nonce":1,"signature":{}}', "type"),
    ],
)
def test_what_is_no_action_is_told_in_a_line(sent: bytes, problem: str) -> None:
    with pytest.raises(BadAction, match=problem) as error:
        asked.read(sent)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "row",
    [
        7,
        order(a="4"),
        order(a=True),
        order(s=1.5),
        order(s="NaN"),
        order(s="1e99"),
        order(s="-1"),
        order(p=[]),
        order(b="yes"),
        order(r=None),
        order(t={}),
        order(t={"limit": {}, "trigger": {}}),
        order(t={"trigger": {"isMarket": True}}),
        order(p=None),
    ],
)
def test_an_order_that_cannot_be_read_is_not_sent_past_a_limit(row: Any) -> None:
    with pytest.raises(BadAction):
        check(placing(row), Rails(max_order_usd=Decimal(10**12)))


def test_weights_are_the_exchange_s() -> None:
    assert [asked.read(placing(*[order()] * n)).weight for n in (1, 39, 40, 79, 80)] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert asked.read(SEND).weight == 1
