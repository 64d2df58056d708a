"""The server looks at every connection once a second: who has ended is forgotten, whose application
does not end is cancelled, and nothing ends the looking."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from streaming.ws import checks
from streaming.ws.checks import CHECK_EVERY_S, CHECKS_PER_TURN
from streaming.ws.close_codes import CloseCode
from streaming.ws.server import Factory, Protocol, Server

KEY = "hlr_test_" + "5" * 32 + "abcdef"
Application = Callable[..., Awaitable[None]]


class Connection:
    """As much of one as is looked at."""

    def __init__(self, error: Exception | None = None) -> None:
        self.looks = 0
        self.error = error
        self.transport: Any = StringTransport()

    def check_timeouts(self) -> None:
        """Count."""
        self.looks += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(checks, "reactor", clock)
    return clock


@pytest.fixture
def made(clock: Clock) -> Server:
    return serving(idle)


def serving(application: Application) -> Server:
    """As `run` makes it."""
    made = Server(application, ["tcp:0"])
    made.connections = {}
    made.ws_factory = Factory(made, server="hlrelay")
    made.ws_factory.setProtocolOptions(openHandshakeTimeout=0)
    return made


async def idle(**_: Any) -> None:
    """An application that does not end."""
    await asyncio.Event().wait()


def turn(clock: Clock) -> float:
    """Make the next call, and no other; returns how long the loop waited for it."""
    (call,) = clock.getDelayedCalls()
    waited_s = float(call.getTime() - clock.seconds())
    run = functools.partial(call.func, *call.args)
    call.cancel()
    run()
    return waited_s


def shaken(made: Server) -> Protocol:
    """A customer who asks to be let in."""
    protocol: Protocol = made.ws_factory.buildProtocol(None)
    protocol._raw_query_string = b""
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(
        f"GET /{KEY}/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return protocol


async def test_who_has_ended_is_forgotten(made: Server, clock: Clock) -> None:
    gone, here = Connection(), Connection()
    task = asyncio.ensure_future(asyncio.sleep(0))
    made.connections[gone] = {"disconnected": time.monotonic(), "application_instance": task}
    made.connections[here] = {}
    freed = weakref.ref(gone)
    del gone
    made.application_checker()
    assert len(made.connections) == 2  # its application has not ended
    await task
    gc.disable()
    try:
        assert turn(clock) == CHECK_EVERY_S
        assert freed() is None
    finally:
        gc.enable()
    assert list(made.connections) == [here]


async def test_who_is_there_is_pinged_when_it_is_time(made: Server, clock: Clock) -> None:
    connection = Connection()
    task = asyncio.ensure_future(idle())
    made.connections[connection] = {"application_instance": task}
    made.application_checker()
    turn(clock)
    assert connection.looks == 2
    task.cancel()


@pytest.mark.parametrize("is_answered", [True, False])
async def test_who_was_pinged_and_is_cut_is_freed(clock: Clock, is_answered: bool) -> None:
    async def accepting(*, send: Any, receive: Any, **_: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    made = serving(accepting)
    protocol = shaken(made)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    protocol.last_ping -= made.ping_interval + 1
    protocol.transport.clear()
    made.application_checker()
    ping = protocol.transport.value()
    assert ping[:1] == b"\x89"
    if is_answered:
        protocol.dataReceived(bytes((0x8A, 0x80 | len(ping[2:]))) + bytes(4) + ping[2:])
    (details,) = made.connections.values()
    freed, task = weakref.ref(protocol), details.pop("application_instance")
    gc.disable()
    try:
        protocol.connectionLost(Failure(ConnectionDone()))
        await task
        del protocol, details, task
        turn(clock)
        assert freed() is None
    finally:
        gc.enable()


async def test_an_application_that_does_not_end_is_cancelled(made: Server, clock: Clock) -> None:
    task = asyncio.ensure_future(idle())
    details = {"disconnected": time.monotonic(), "application_instance": task}
    made.connections[Connection()] = details
    made.application_checker()
    await asyncio.sleep(0)
    assert not task.done()
    details["disconnected"] = time.monotonic() - made.application_close_timeout - 1
    turn(clock)
    with pytest.raises(asyncio.CancelledError):
        await task
    turn(clock)
    assert not made.connections


async def test_a_failed_application_is_told_once_and_without_the_key(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(*, send: Any, **_: Any) -> None:
        await send({"type": "websocket.accept"})
        raise RuntimeError("ours")

    made = serving(failing)
    protocol = shaken(made)
    (details,) = made.connections.values()
    await asyncio.wait([details["application_instance"]])
    protocol.transport.clear()
    with caplog.at_level(logging.DEBUG):
        made.application_checker()
        turn(clock)
    code = int(CloseCode.INTERNAL).to_bytes(2, "big")
    assert protocol.transport.value() == bytes((0x88, len(code))) + code
    (record,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert record.getMessage() == "an application failed: RuntimeError('ours')"
    assert KEY not in caplog.text
    assert KEY not in repr(protocol)


async def test_many_are_looked_at_in_pieces(made: Server, clock: Clock) -> None:
    crowd = 3 * CHECKS_PER_TURN + 1
    made.connections |= {Connection(): {"disconnected": time.monotonic()} for _ in range(crowd)}
    left = []
    made.application_checker()
    left.append(len(made.connections))
    while (waited_s := turn(clock)) == 0:
        left.append(len(made.connections))
    assert waited_s == CHECK_EVERY_S
    assert left == [2 * CHECKS_PER_TURN + 1, CHECKS_PER_TURN + 1, 1, 0]


@pytest.mark.parametrize("has_transport", [True, False])
async def test_one_that_cannot_be_looked_at_ends_alone(
    made: Server, clock: Clock, caplog: pytest.LogCaptureFixture, has_transport: bool
) -> None:
    broken, others = Connection(RuntimeError("ours")), [Connection() for _ in range(3)]
    transport = broken.transport
    if not has_transport:
        broken.transport = None
    task = asyncio.ensure_future(idle())
    made.connections[others[0]] = {}
    made.connections[broken] = {"application_instance": task}
    made.connections |= {other: {} for other in others[1:]}
    made.application_checker()
    assert turn(clock) == CHECK_EVERY_S
    assert list(made.connections) == others
    assert [other.looks for other in others] == [2, 2, 2]
    assert transport.disconnected == has_transport
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = caplog.records
    assert record.getMessage() == "a connection could not be looked at, and was cut"


async def test_what_cannot_even_be_cut_does_not_end_the_looking(made: Server, clock: Clock) -> None:
    broken, other = Connection(RuntimeError("ours")), Connection()
    broken.transport = object()
    made.connections |= {broken: {}, other: {}}
    with pytest.raises(AttributeError):
        made.application_checker()
    assert turn(clock) == 0
    assert list(made.connections) == [other]
    assert turn(clock) == CHECK_EVERY_S
    assert other.looks == 2


async def test_at_the_end_all_applications_end_also_beside_who_has_none(made: Server) -> None:
    task = asyncio.ensure_future(idle())
    made.connections |= {Connection(): {}, Connection(): {"application_instance": task}}
    await asyncio.sleep(0)
    await made.kill_all_applications().asFuture(asyncio.get_running_loop())
    assert task.cancelled()
