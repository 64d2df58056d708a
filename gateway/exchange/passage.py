"""The way of a signed action to the exchange: at most once, and what became of it is said as it is.

**Never twice.** Nothing here tries again once a byte may have left, whatever came back: a second
order is worse than an error. Only a connection that could not be made leads to the next address,
because then the exchange has seen nothing. aiohttp repeats idempotent methods on a connection that
was closed meanwhile; POST is none, and `tests/gateway/exchange/test_passage.py` counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace

import aiohttp

from gateway.upstreams.posts import Answer

#: The exchange answers within a block or two; 10 s is what clients of it wait.
DEADLINE_S = 10.0
#: A host that says nothing for so long is passed over; and so the kill switch, which is looked at
#: before, holds within it.
CONNECT_S = 1.0
#: The answer to a full batch is some 20 KB.
MAX_ANSWER_BYTES = 1024 * 1024
#: An idle connection is given up before the far side does so and takes an order with it.
KEEPALIVE_S = 15.0
#: At one time, to all addresses: ten tenants with all that one may have on the way.
MAX_CONNECTIONS = 1_024


class Outcome(StrEnum):
    """What is known of a request."""

    ANSWERED = "answered"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Passed:
    """How a request went. Without an answer, `why` is one line; `outcome` is UNKNOWN as soon as
    one byte of the request may have left. Times are of the monotonic clock, in ns."""

    outcome: Outcome
    answer: Answer | None = None
    why: str = ""
    sent_ns: int = 0
    answered_ns: int = 0


@dataclass(slots=True)
class _Trace:
    """What the HTTP client says of one request as it goes."""

    #: A connection was there: from now on bytes may have left.
    sent_ns: int = 0


class Passage:
    """The connections of one process to the exchange, from one of our addresses or any."""

    def __init__(self, *, local_address: str | None = None) -> None:
        self._local = local_address
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, urls: Sequence[str], body: bytes, *, deadline_s: float = DEADLINE_S
    ) -> Passed:
        """POST `body` as it is to the first of `urls` that can be connected to.

        Not to be cancelled once begun: what was sent is sent, and what became of it has to be
        learnt.
        """
        why = "no upstream with /exchange is configured (RELAY_UPSTREAMS: exchange=…)"
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_s
        for url in urls:
            trace = _Trace()
            left_s = ends_at - loop.time()
            if left_s <= 0:
                break
            try:
                answer = await self._post(url, body, trace, left_s)
            except aiohttp.ClientConnectorError as error:
                # Refused, unreachable, no such host, TLS that fails: nothing of the request left.
                why = f"no connection to the exchange ({type(error.os_error).__name__})"
                continue
            except TimeoutError:
                if not trace.sent_ns:
                    why = "no connection to the exchange (it did not answer in time)"
                    continue
                why = f"no answer within {deadline_s:.0f} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                why = f"the connection failed ({type(error).__name__})"
            else:
                return Passed(Outcome.ANSWERED, answer, "", trace.sent_ns, _now_ns())
            if trace.sent_ns:
                return Passed(Outcome.UNKNOWN, None, why, trace.sent_ns, _now_ns())
        return Passed(Outcome.NOT_SENT, None, why)

    async def _post(self, url: str, body: bytes, trace: _Trace, deadline_s: float) -> Answer:
        session = self._session
        if session is None:
            session = self._session = self._open()
        async with session.post(
            url,
            data=body,
            # The customer's own headers stay here, and with them the key.
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S),
            trace_request_ctx=trace,
        ) as reply:
            data = await reply.content.read(MAX_ANSWER_BYTES + 1)
            while not reply.content.at_eof() and len(data) <= MAX_ANSWER_BYTES:
                data += await reply.content.read(MAX_ANSWER_BYTES + 1 - len(data))
            if len(data) > MAX_ANSWER_BYTES:
                raise ValueError("an answer without end")
            kind = reply.headers.get("content-type", "application/json").encode("latin-1")
            return Answer(reply.status, kind, data)

    def _open(self) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(_connected)
        tracing.on_connection_reuseconn.append(_connected)
        local = (self._local, 0) if self._local else None
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, local_addr=local
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=[tracing],
        )

    async def close(self) -> None:
        """Close the connections. What is on its way is lost to its caller: drain first."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.sent_ns = _now_ns()


_now_ns = time.monotonic_ns
