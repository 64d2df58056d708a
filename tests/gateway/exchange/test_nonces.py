"""Warnings of nonces and clocks: as the simulator's exchange would refuse, and never a refusal."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import nonces
from gateway.exchange.asked import read
from gateway.exchange.nonces import Nonces
from gateway.exchange.watch import LOOK_AFTER_S, Moment, Signers, Watcher
from streaming.simulator.trading.nonces import Nonces as Exchanges
from tests.gateway.exchange.faulty import REPLY
from tests.gateway.exchange.test_rails import CANCEL, SIGNER
from tests.gateway.exchange.test_service import OTHER, TRADER, desk


@given(st.lists(st.integers(1, 400), max_size=400))
def test_what_is_warned_of_is_what_the_exchange_refuses(sent: list[int]) -> None:
    ours, theirs = Nonces(), Exchanges()
    for nonce in sent:
        warned = ours.use("0x1", nonce)
        refused = theirs.take(nonce, now_ms=1)
        assert (warned is None) == (refused is None), (nonce, warned, refused)


def codes(nonce: int, expires_after: object = None) -> list[str]:
    return [w.code for w in nonces.clock_of(nonce, expires_after, now_ms=1e12)]


def test_clocks_that_are_wrong() -> None:
    now = 10**12
    assert codes(now) == codes(now - 4_000) == []
    assert codes(now + 6_000) == codes(now - 6_000) == ["clock_skew"]
    assert codes(7) == codes(now + 2 * 86_400_000) == ["nonce_outside"]
    assert codes(now, now + 100) == ["expires_soon"]
    assert codes(now, now + 5_000) == codes(now, "soon") == []


async def test_a_nonce_sent_twice_is_passed_on_and_named() -> None:
    def sent(nonce: int) -> bytes:
        action: dict[str, Any] = {"type": "cancel", "cancels": [{"a": 0, "o": 7}]}
        signature = {"r": "0x1", "s": "0x2", "v": 27}
        return orjson.dumps({"action": action, "nonce": nonce, "signature": signature})

    async with desk(watcher=Watcher(lambda _: Signers(SIGNER, OTHER))) as at:
        now = int(time.time() * 1e3)
        told = []
        for nonce in (now, now, now - 60_000):
            answer, headers = await at.exchange.serve(sent(nonce), TRADER)
            assert answer.body == REPLY
            told.append([value for name, value in headers if name == b"x-relay-warning"])
        assert len(at.upstream.bodies) == 3
        first, second, third = told
        assert first == []
        assert second[0].startswith(b"nonce_reused; nonce %d was sent before" % now)
        assert third[0].startswith(b"clock_skew; nonce is 60.0 s behind")


async def test_what_was_not_sent_for_want_of_budget_is_no_nonce_used() -> None:
    watcher = Watcher(lambda _: Signers(SIGNER, OTHER))
    sent = read(CANCEL)
    for _ in range(2):
        watch = watcher.begin(sent, TRADER, request_id="r", received=Moment.now())
        watch.leaves()
        await asyncio.sleep(3 * LOOK_AFTER_S)  # it waits for its turn, and is looked at
        watch.refused("the budget of the address is spent")
        assert b"nonce_reused" not in b"".join(value for _, value in watch.headers())
