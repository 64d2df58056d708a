"""One port: POST /info, POST /exchange, GET /ws and, for test oracles, GET /sim/state and
/sim/exchange; a second one for metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streaming.simulator.servers.dialect import Subscription
from streaming.simulator.servers.door import ExchangeDoor
from streaming.simulator.servers.feeds import Feeds
from streaming.simulator.servers.info import UNPROCESSABLE, Answer, InfoDesk, Refused
from streaming.simulator.servers.socket import Socket, SocketRules
from streaming.simulator.trading.desk import TradingDesk

SHUTDOWN_S = 0.3  # a stop must take less than a second
NULL = Answer(b"null")


class Endpoint:
    """The HTTP and WebSocket face of a simulation or a recording.

    `on_info` is told of every /info request's type, `state` fills GET /sim/state, and `registry`
    what the metrics port shows. Without a `trading` desk there is no /exchange; `also` adds what
    else is served.
    """

    def __init__(
        self,
        desk: InfoDesk,
        feeds: Feeds,
        *,
        state: Callable[[], dict[str, object]],
        registry: CollectorRegistry,
        rules: SocketRules | None = None,
        trading: TradingDesk | None = None,
        on_info: Callable[[str], None] = lambda kind: None,
        on_subscribe: Callable[[Subscription], None] = lambda subscription: None,
        also: Callable[[web.Application], None] = lambda app: None,
    ) -> None:
        self._desk = desk
        self._also = also
        self._state = state
        self._registry = registry
        self._on_info = on_info
        self._door = None if trading is None else ExchangeDoor(trading)
        self.socket = Socket(
            feeds,
            post_info=self._post_info,
            post_action=None if self._door is None else self._door.post,
            rules=rules or SocketRules(),
            on_subscribe=on_subscribe,
        )
        self.port = 0
        self.metrics_port: int | None = None

    @contextlib.asynccontextmanager
    async def listen(
        self, *, host: str, port: int, metrics_port: int | None = None
    ) -> AsyncIterator[None]:
        """Serve while the context lasts; port 0 takes a free one, readable as `port`. Raises
        OSError when taken.
        """
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/info", self._info)
        if self._door is not None:
            _open(app, self._door)
        app.router.add_get("/ws", self.socket.serve)
        app.router.add_get("/sim/state", self._sim_state)
        self._also(app)
        metrics = web.Application()
        metrics.router.add_get("/metrics", self._metrics)
        async with contextlib.AsyncExitStack() as stack:
            self.port = await _start(stack, app, host=host, port=port)
            if metrics_port is not None:
                self.metrics_port = await _start(stack, metrics, host=host, port=metrics_port)
            stack.callback(self.socket.drop_all)
            sweeper = asyncio.create_task(self._drop_idle())
            stack.callback(sweeper.cancel)
            yield

    async def _drop_idle(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.socket.drop_idle()

    async def _info(self, request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await request.read())
        except ValueError:
            return _response(Answer(UNPROCESSABLE, status=422, is_text=True))
        return _response(await self._answer(body))

    async def _answer(self, body: object) -> Answer:
        if not isinstance(body, dict):
            return self._desk.answer(body)
        self._on_info(str(body.get("type")))
        if body.get("type") != "fileSnapshot":
            return self._desk.answer(body)
        try:
            snapshot = self._desk.snapshot_file(body)
        except Refused as refused:
            return refused.answer
        try:
            await asyncio.to_thread(_write_file, Path(snapshot.path), snapshot.content)
        except OSError as failure:
            return Answer(
                f"could not write {snapshot.path}: {failure.strerror}".encode(),
                status=500,
                is_text=True,
            )
        return NULL

    async def _post_info(self, payload: dict[str, object]) -> tuple[int, bytes]:
        answer = await self._answer(payload)
        return answer.status, answer.body

    async def _sim_state(self, request: web.Request) -> web.Response:
        body = {
            **self._state(),
            "connections": list(self.socket.counts()),
            "framesSent": self.socket.frames_sent,
        }
        return _response(Answer(orjson.dumps(body)))

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def _open(app: web.Application, door: ExchangeDoor) -> None:
    async def exchange(request: web.Request) -> web.Response:
        return _response(await door.exchange(request))

    async def arrivals(request: web.Request) -> web.Response:
        return _response(door.arrivals(request))

    app.router.add_post("/exchange", exchange)
    app.router.add_get("/sim/exchange", arrivals)


async def _start(
    stack: contextlib.AsyncExitStack, app: web.Application, *, host: str, port: int
) -> int:
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_S, handler_cancellation=True
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host, port)
    await site.start()
    return int(runner.addresses[0][1])


def _response(answer: Answer) -> web.Response:
    content_type = "text/plain" if answer.is_text else "application/json"
    headers = {"Access-Control-Allow-Origin": "*"}
    return web.Response(
        body=answer.body, status=answer.status, content_type=content_type, headers=headers
    )


def _write_file(path: Path, content: bytes) -> None:
    # Renamed into place: whoever watches for the file never sees half of one.
    partial = path.with_name(f"{path.name}.{time.monotonic_ns()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
