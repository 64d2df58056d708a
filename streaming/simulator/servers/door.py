"""POST /exchange over HTTP and over the socket: counted, read, and answered when its block is
written.
"""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web

from streaming.simulator.engine.block import Event
from streaming.simulator.servers.info import UNPROCESSABLE, Answer
from streaming.simulator.trading.desk import Pending, TradingDesk
from streaming.simulator.trading.wire import Unparsable

MALFORMED = Answer(UNPROCESSABLE, status=422, is_text=True)


class ExchangeDoor:
    """Every body that comes is counted, whatever it holds, before it is read."""

    def __init__(self, trading: TradingDesk) -> None:
        self._trading = trading

    async def exchange(self, request: web.Request) -> Answer:
        """The answer to a request of HTTP."""
        try:
            body = await request.read()
        except BaseException:
            # The sender left amid the body: it did come, in part.
            self._trading.arrivals.incomplete += 1
            raise
        self._trading.arrivals.add(body)
        try:
            parsed = orjson.loads(body)
        except ValueError:
            return MALFORMED
        return await self._act(parsed)

    async def post(self, payload: dict[str, object]) -> tuple[int, bytes]:
        """Status and body of the answer to an action posted on the socket, which counts as its
        compact JSON.
        """
        self._trading.arrivals.add(orjson.dumps(payload))
        answer = await self._act(payload)
        return answer.status, answer.body

    async def _act(self, body: object) -> Answer:
        """Whoever leaves before their block has acted all the same."""
        try:
            outcome = self._trading.receive(body)
        except Unparsable:
            return MALFORMED
        if isinstance(outcome, Pending):
            outcome = await _reply(outcome)
        return Answer(orjson.dumps(outcome))

    def arrivals(self, request: web.Request) -> Answer:
        """What came; of one body alone with `sha256`."""
        arrivals, digest = self._trading.arrivals, request.query.get("sha256")
        shown = arrivals.as_dict() if digest is None else {"count": arrivals.count(digest)}
        return Answer(orjson.dumps(shown))


async def _reply(pending: Pending) -> Event:
    reply: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    def take(event: Event) -> None:
        if not reply.done():
            reply.set_result(event)

    pending.on_reply = take
    return await reply
