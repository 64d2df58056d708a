"""One request is at most one body at the exchange, and what is said of it is true."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from gateway.exchange.passage import Outcome, Passage
from tests.gateway.exchange.faulty import REPLY, Fault, faulty_exchange, refusing_url

#: What is known after each fault.
OUTCOMES = {
    Fault.NONE: Outcome.ANSWERED,
    Fault.RESET_AT_ACCEPT: Outcome.UNKNOWN,
    Fault.RESET_IN_BODY: Outcome.UNKNOWN,
    Fault.CLOSE_BEFORE_REPLY: Outcome.UNKNOWN,
    Fault.RESET_BEFORE_REPLY: Outcome.UNKNOWN,
    Fault.REPLY_CUT: Outcome.UNKNOWN,
    Fault.GARBAGE: Outcome.UNKNOWN,
    Fault.BAD_GATEWAY: Outcome.ANSWERED,
    Fault.STALL: Outcome.UNKNOWN,
    Fault.CLOSE_AFTER_REPLY: Outcome.ANSWERED,
    Fault.REDIRECT: Outcome.ANSWERED,
}


async def test_the_body_goes_as_it_came_and_the_answer_comes_as_it_went() -> None:
    body = b' {"action" : {"type":"order", "x":1.10}, "nonce":1 }\n'
    passage = Passage()
    async with faulty_exchange() as exchange:
        passed = await passage.send([exchange.url], body)
        assert exchange.bodies == [body]
    await passage.close()
    assert passed.outcome is Outcome.ANSWERED
    assert passed.answer is not None
    assert (passed.answer.status, passed.answer.body) == (200, REPLY)
    assert 0 < passed.sent_ns <= passed.answered_ns


@pytest.mark.parametrize("fault", list(Fault))
async def test_what_is_said_of_a_fault(fault: Fault) -> None:
    passage = Passage()
    async with faulty_exchange() as exchange, faulty_exchange() as second:
        exchange.fault = fault
        passed = await passage.send(
            [exchange.url, second.url], b"{}", deadline_s=0.3 if fault is Fault.STALL else 10.0
        )
        assert passed.outcome is OUTCOMES[fault]
        assert len(exchange.bodies) <= 1
        assert second.begun == 0, "what may have been sent was sent again"
    await passage.close()


async def test_only_who_cannot_be_connected_to_is_passed_over() -> None:
    passage = Passage()
    async with faulty_exchange() as exchange:
        passed = await passage.send([refusing_url(), exchange.url], b"{}")
        assert passed.outcome is Outcome.ANSWERED
        assert exchange.bodies == [b"{}"]
        nobody = await passage.send([refusing_url(), refusing_url()], b"{}")
    await passage.close()
    assert nobody.outcome is Outcome.NOT_SENT
    assert nobody.why == "no connection to the exchange (ConnectionRefusedError)"
    assert (await Passage().send([], b"{}")).outcome is Outcome.NOT_SENT


async def test_of_many_requests_through_random_faults_none_arrives_twice() -> None:
    """Also over connections that are used again, and closed by the far side meanwhile."""
    chance = random.Random(5)
    faults = [fault for fault in Fault if fault is not Fault.STALL]
    passage = Passage()
    said: Counter[Outcome] = Counter()
    async with faulty_exchange() as exchange:
        for turn in range(60):
            exchange.fault = chance.choice(faults)
            bodies = [b'{"n":%d}' % (10 * turn + n) for n in range(10)]
            passed = await asyncio.gather(
                *(passage.send([refusing_url(), exchange.url], body) for body in bodies)
            )
            arrived = Counter(exchange.bodies)
            for body, one in zip(bodies, passed, strict=True):
                said[one.outcome] += 1
                assert arrived[body] <= 1
                if one.outcome is Outcome.ANSWERED:
                    assert arrived[body] == 1
                elif one.outcome is Outcome.NOT_SENT:
                    assert arrived[body] == 0
    await passage.close()
    assert min(said[Outcome.ANSWERED], said[Outcome.UNKNOWN]) > 50
