"""Who sends what nobody should: garbage and floods, and the refusal each is owed by docs/limits.md.

All attacks run at the same time, in a thread of their own, at every edge.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from streaming.ws.close_codes import (
    INBOUND_BURST,
    MAX_HTTP_BODY_BYTES,
    MAX_INBOUND_FRAME_BYTES,
    MAX_REFUSED_FRAMES,
    CloseCode,
)

ROUNDS = 2
DEADLINE_S = 60.0
#: Enough to pass both allowances of a connection, with what a minute adds to them.
MANY = 2 * (INBOUND_BURST + MAX_REFUSED_FRAMES)
#: RFC 6455.
PROTOCOL_ERROR, INVALID_DATA = 1002, 1007


def _frame(payload: bytes, opcode: Opcode = Opcode.TEXT, *, is_final: bool = True) -> bytes:
    return Frame(opcode, payload, is_final).serialize(mask=True)


def _said(method: str, **fields: object) -> bytes:
    return _frame(json.dumps({"method": method, **fields}).encode())


def _unreadable(rng: random.Random) -> Iterator[bytes]:
    for _ in range(10):
        yield _frame(rng.choice([b"", b"{", b"nonsense", b"[" * 10_000, b"NaN", b'"\\ud800"']))


def _too_big(rng: random.Random) -> Iterator[bytes]:
    yield _frame(b"x" * (MAX_INBOUND_FRAME_BYTES + rng.randint(1, 100_000)))


def _endless(rng: random.Random) -> Iterator[bytes]:
    yield _frame(b"x", is_final=False)
    for _ in range(100):
        yield _frame(b"x" * 32_000, Opcode.CONT, is_final=False)


def _not_utf8(rng: random.Random) -> Iterator[bytes]:
    yield _frame(b'{"method":"ping","x":"\xff\xfe"}')


def _noise(rng: random.Random) -> Iterator[bytes]:
    # A reserved bit is set, so that it is not a frame by chance.
    yield b"\xf3" + rng.randbytes(rng.randint(100, 50_000))


def _unmasked(rng: random.Random) -> Iterator[bytes]:
    yield Frame(Opcode.TEXT, b'{"method":"ping"}').serialize(mask=False)


def _asking(rng: random.Random) -> Iterator[bytes]:
    for _ in range(MANY):
        yield _said("ping")


def _churning(rng: random.Random) -> Iterator[bytes]:
    for number in range(MANY):
        coin = rng.choice(["BTC", "ETH", f"NONE{number}"])
        method = rng.choice(["subscribe", "unsubscribe"])
        yield _said(method, subscription={"type": "trades", "coin": coin})


def _pinging(rng: random.Random) -> Iterator[bytes]:
    for _ in range(MANY):
        yield _frame(b"?", Opcode.PING)


@dataclass(frozen=True, slots=True)
class Attack:
    """What is sent after a good handshake, and the codes the connection is closed with."""

    says: Callable[[random.Random], Iterator[bytes]]
    codes: frozenset[int]


ATTACKS = (
    Attack(_unreadable, frozenset({CloseCode.UNREADABLE})),
    Attack(_too_big, frozenset({CloseCode.TOO_BIG})),
    Attack(_endless, frozenset({CloseCode.TOO_BIG})),
    Attack(_not_utf8, frozenset({INVALID_DATA})),
    Attack(_noise, frozenset({PROTOCOL_ERROR})),
    Attack(_unmasked, frozenset({PROTOCOL_ERROR})),
    Attack(_asking, frozenset({CloseCode.POLICY})),
    # Each subscribe is answered with the last trades: they may be more than one reads.
    Attack(_churning, frozenset({CloseCode.POLICY, CloseCode.SLOW})),
    Attack(_pinging, frozenset({CloseCode.POLICY})),
)

_UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
#: Requests that never become a connection, and the status of the answer.
KNOCKS = (
    (_UPGRADE % b"/ws", 401),
    (_UPGRADE % b"/nonsense/ws", 401),
    (_UPGRADE % b"/elsewhere", 404),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"POST /x/info HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % 2**40, 413),
    (
        b"POST /x/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n"
        % (MAX_HTTP_BODY_BYTES + 1, b"x" * (MAX_HTTP_BODY_BYTES + 1)),
        413,
    ),
)


class Hostile:
    """Attacks begin when it is made; `join` waits for their end."""

    def __init__(self, ports: Sequence[int], api_key: str, rng: random.Random) -> None:
        self._ports, self._api_key = ports, api_key
        self._rng = random.Random(rng.random())
        self._problems: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="hostile")
        self._thread.start()

    def join(self) -> list[str]:
        """What was not refused as it should have been."""
        self._thread.join()
        return self._problems

    async def _run(self) -> None:
        for _ in range(ROUNDS):
            attacks = [self._attack(port, attack) for port in self._ports for attack in ATTACKS]
            knocks = [self._knock(port, *knock) for port in self._ports for knock in KNOCKS]
            await asyncio.gather(*attacks, *knocks)

    async def _attack(self, port: int, attack: Attack) -> None:
        name = attack.says.__name__.strip("_")
        url = f"ws://127.0.0.1:{port}/{self._api_key}/ws?relay=1"
        try:
            async with asyncio.timeout(DEADLINE_S):
                code = await self._send_all(url, attack)
        except (OSError, TimeoutError) as error:
            self._problems.append(f"{name}: {type(error).__name__}: {error}")
            return
        if code not in attack.codes:
            self._problems.append(f"{name}: closed with {code}, not {set(map(int, attack.codes))}")

    async def _send_all(self, url: str, attack: Attack) -> int | None:
        # They read: who does not is another fault.
        async with connect(url, compression=None, max_queue=None, ping_interval=None) as socket:
            for piece in attack.says(self._rng):
                if socket.transport.is_closing():
                    break
                socket.transport.write(piece)
                await socket.drain()
            try:
                async for _ in socket:
                    pass
            except ConnectionClosed:
                pass
            return socket.close_code

    async def _knock(self, port: int, request: bytes, status: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write(request)
                answer = await reader.readline()
        except (OSError, TimeoutError) as error:
            answer = repr(error).encode()
        finally:
            writer.close()
        if not answer.startswith(b"HTTP/1.1 %d " % status):
            said = request[:40], answer[:80]
            self._problems.append(f"{said[0]!r}: answered {said[1]!r}, not {status}")
