"""A loop that goes by turns: few sockets at a time, some before all others, nobody forgotten."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from streaming.turns import SOCKETS_PER_TURN, TurnSelector, go_by_turns, put_first

CROWD = 10 * SOCKETS_PER_TURN


@pytest.fixture
def selector() -> Iterator[TurnSelector]:
    with TurnSelector() as made:
        yield made


@pytest.fixture
def crowd(selector: TurnSelector) -> Iterator[list[socket.socket]]:
    """Sockets that can all be read, for ever."""
    pairs = [socket.socketpair() for _ in range(CROWD)]
    for ours, theirs in pairs:
        theirs.send(b"x")
        selector.register(ours, selectors.EVENT_READ)
    yield [ours for ours, _ in pairs]
    for pair in pairs:
        for end in pair:
            end.close()


def turn(selector: TurnSelector) -> list[int]:
    return [key.fd for key, _ in selector.select(0)]


def test_a_turn_is_small_and_everybody_gets_the_same_number(
    selector: TurnSelector, crowd: list[socket.socket]
) -> None:
    turns = [turn(selector) for _ in range(3 * CROWD // SOCKETS_PER_TURN)]
    assert {len(each) for each in turns} == {SOCKETS_PER_TURN}
    served = Counter(fd for each in turns for fd in each)
    assert served == {each.fileno(): 3 for each in crowd}


def test_who_is_put_first_is_in_every_turn_and_once(
    selector: TurnSelector, crowd: list[socket.socket]
) -> None:
    bus = crowd[-1].fileno()
    selector.put_first(bus)
    selector.put_first(bus)
    turn(selector)  # before the first full turn nobody knows that there is a crowd
    for _ in range(30):
        assert turn(selector).count(bus) == 1


def test_who_was_put_first_and_is_gone_is_forgotten(
    selector: TurnSelector, crowd: list[socket.socket]
) -> None:
    gone = crowd.pop()
    fd = gone.fileno()
    selector.put_first(fd)
    selector.unregister(gone)
    gone.close()
    fresh, other = socket.socketpair()
    with fresh, other:
        assert fresh.fileno() == fd  # the number is somebody else's now
        selector.register(fresh, selectors.EVENT_READ)
        assert not any(fd in turn(selector) for _ in range(30))
        selector.unregister(fresh)


def test_a_loop_goes_on_by_turns_with_what_it_had() -> None:
    loop = asyncio.SelectorEventLoop(selectors.EpollSelector())
    try:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        heard: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(ours, lambda: heard.done() or heard.set_result(ours.recv(1)))
        go_by_turns(loop)
        put_first(loop, ours.fileno())

        async def everything() -> bytes:
            await asyncio.sleep(0.001)
            await asyncio.to_thread(theirs.send, b"x")  # comes back through the loop's own pipe
            async with asyncio.timeout(5):
                return await heard

        assert loop.run_until_complete(everything()) == b"x"
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
