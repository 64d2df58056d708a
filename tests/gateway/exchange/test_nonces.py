"""Warnings of nonces and clocks: as the simulator's exchange would refuse, and never a refusal."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import orjson
import redis
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import nonces
from gateway.exchange.asked import Asked, read
from gateway.exchange.nonces import Nonces
from gateway.exchange.shared_nonces import SharedNonces
from gateway.exchange.tracing import Tracer
from gateway.exchange.watch import LOOK_AFTER_S, Moment, Watcher
from streaming.simulator.trading.nonces import Nonces as Exchanges
from tests.gateway.exchange.faulty import REPLY, Fault
from tests.gateway.exchange.test_rails import CANCEL, SIGNER
from tests.gateway.exchange.test_service import OTHER, TRADER, desk, signed_by


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

    async with desk(watcher=Watcher(signed_by(SIGNER, OTHER))) as at:
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
    watcher = Watcher(signed_by(SIGNER, OTHER))
    sent = read(CANCEL)
    for _ in range(2):
        watch = watcher.begin(sent, TRADER, request_id="r", received=Moment.now())
        watch.leaves()
        await asyncio.sleep(3 * LOOK_AFTER_S)  # it waits for its turn, and is looked at
        watch.refused("the budget of the address is spent")
        assert b"nonce_reused" not in b"".join(value for _, value in watch.headers())


async def test_a_fault_in_what_is_looked_at_takes_no_answer_away() -> None:
    def recover(_: Asked, on_mainnet: bool) -> str:
        raise RuntimeError("a library's")

    class Broken:
        follower = None

        def note(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("ours")

    async with desk(watcher=Watcher(recover, tracer=cast(Tracer, Broken()))) as at:
        assert (await at.send(CANCEL))[0] == 200
        assert len(at.upstream.bodies) == 1


async def test_a_nonce_that_another_process_sent_is_named_and_nobody_waits_for_it(
    redis_url: str,
) -> None:
    now = int(time.time() * 1e3)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(f"relay:nonces:{SIGNER}")
    sent = CANCEL.replace(b'"nonce":1', b'"nonce":%d' % now)
    told = []
    for url in (redis_url, redis_url, "redis://127.0.0.1:1/0"):
        shared = SharedNonces(url)
        process = Watcher(signed_by(SIGNER, OTHER), shared_nonces=shared)
        async with desk(watcher=process) as at:
            at.upstream.fault = Fault.STALL
            going = asyncio.create_task(at.exchange.serve(sent, TRADER))
            await at.upstream.is_reached.wait()
            while not process.nonces._kept:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.001)
            await asyncio.gather(*shared._tasks)
            at.upstream.may_answer.set()
            _, headers = await going
        told.append([value[:12] for name, value in headers if name == b"x-relay-warning"])
        await shared.aclose()
    assert told == [[], [b"nonce_reused"], []]
