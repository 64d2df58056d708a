"""`/evm` behind the simulator's port: JSON-RPC over HTTP and, with subscriptions, WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from streaming.simulator.servers.evm_chain import L1_BLOCKS, Chain
from streaming.simulator.servers.evm_rpc import EvmRpc
from streaming.simulator.simulation import BLOCK_NS, Simulator

#: How often a socket looks for a new block.
LOOK_S = 0.1
_NOT_IN_HEADS = frozenset({"transactions", "uncles", "size", "totalDifficulty"})


class EvmServer:
    """One chain, its blocks in step with the simulated exchange's."""

    def __init__(self, simulator: Simulator) -> None:
        def second(number: int) -> int:
            blocks_ago = simulator.height - number * L1_BLOCKS
            return (simulator.exchange.block.time_ms - blocks_ago * BLOCK_NS // 1_000_000) // 1_000

        seed = simulator.settings.seed
        chain = Chain(seed, height=lambda: simulator.height // L1_BLOCKS, second=second)
        self.rpc = EvmRpc(chain)

    def add_to(self, app: web.Application) -> None:
        """Serve at `/evm`."""
        app.router.add_post("/evm", self._post)
        app.router.add_get("/evm", self._socket)

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        # Signatures take a second to import and then a millisecond each.
        answer = await (
            asyncio.to_thread(self.rpc.answer, body)
            if b"eth_sendRawTransaction" in body
            else _now(self.rpc.answer(body))
        )
        return web.Response(body=answer, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        following: dict[str, dict[str, Any] | None] = {}  # by id; None: heads
        pusher = asyncio.create_task(self._push(socket, following))
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await socket.send_str(self._answer(message.data, following).decode())
        finally:
            pusher.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await pusher
        return socket

    def _answer(self, text: str | bytes, following: dict[str, dict[str, Any] | None]) -> bytes:
        body = text.encode() if isinstance(text, str) else text
        try:
            asked = orjson.loads(body)
        except ValueError:
            return self.rpc.answer(body)
        method = asked.get("method") if isinstance(asked, dict) else None
        if method == "eth_subscribe" and asked.get("params"):
            kind, *rest = asked["params"]
            if kind in ("newHeads", "logs"):
                name = hex(0x1000 + len(following))
                following[name] = (rest[0] if rest else {}) if kind == "logs" else None
                return orjson.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": name})
        if method == "eth_unsubscribe" and asked.get("params"):
            gone = asked["params"][0] in following
            following.pop(asked["params"][0], None)
            return orjson.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": gone})
        return self.rpc.answer(body)

    async def _push(
        self, socket: web.WebSocketResponse, following: dict[str, dict[str, Any] | None]
    ) -> None:
        told = self.rpc.chain.height
        while True:
            await asyncio.sleep(LOOK_S)
            for number in range(told + 1, self.rpc.chain.height + 1):
                block = self.rpc.chain.block(number)
                head = {name: each for name, each in block.items() if name not in _NOT_IN_HEADS}
                for name, wanted in list(following.items()):
                    results = [head] if wanted is None else self.rpc.matching(number, wanted)
                    for result in results:
                        params = {"subscription": name, "result": result}
                        frame = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
                        await socket.send_str(orjson.dumps(frame).decode())
                told = number


async def _now(answer: bytes) -> bytes:
    return answer
