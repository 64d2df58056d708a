"""`POST /<key>/info`: books, mids and recent trades from our own hub, everything else from an
origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from gateway.http import metrics
from gateway.http.errors import JSON_HEADERS, Headers, HttpError
from gateway.http.origin import Answer, Origins
from gateway.http.weights import weight_of, weight_of_answer
from streaming import runtime
from streaming.core.dialects.official import (
    BadSubscription,
    InvalidSubscription,
    parse_subscription,
)
from streaming.core.hub import Feed
from streaming.ws import posts
from tenants.admission.caps import BYTES, REQUESTS
from tenants.admission.errors import Denied
from tenants.admission.limiter import Rate
from tenants.admission.presented import caller_of, presented_key, split_path
from tenants.admission.principal import Principal, Scope

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: The largest request documented is a few hundred bytes.
MAX_BODY_BYTES = 64 * 1024
#: How long to wait for the first frame of a topic nobody followed until now. It takes 1–2 ms from
#: an own node.
FIRST_FRAME_S = 1.0
#: Weight a minute of a key without a rate of its own or of its plan, and at once, as the exchange
#: allows an address.
PER_MINUTE, BURST = 1_200, 1_200
DEFAULT_RATE = Rate(PER_MINUTE, BURST)
#: The channel its use is counted on.
CHANNEL = "info"
#: What a node does with these is not a read: it writes files where the request says.
NOT_FOR_CUSTOMERS = frozenset({"fileSnapshot", "referrerStates"})

OWN = {"l2Book", "allMids", "recentTrades"}


class Info:
    """Answers info requests, over HTTP and as `streaming.ws.posts.Posts`."""

    def __init__(self, current: runtime.Runtime, origins: Origins) -> None:
        self._runtime = current
        self._origins = origins

    async def info(self, payload: Any, principal: Principal) -> bytes:
        """The body for a post over the socket. Raises posts.Refused with one line."""
        try:
            # Let in at another door: this one has its own scope and product.
            self._runtime.admission.check_door(principal, Scope.INFO)
            answer, _ = await self.serve(payload, principal)
        except (HttpError, Denied) as error:
            raise posts.Refused(str(error)) from error
        if answer.status != 200:
            text = answer.body[:200].decode("utf-8", "replace")
            raise posts.Refused(f"{answer.status} {text}")
        return answer.body

    async def action(self, body: bytes, principal: Principal) -> bytes:
        """No actions are forwarded here. Raises posts.Refused."""
        raise posts.Refused(
            "This relay does not forward actions. Send them to the exchange directly."
        )

    async def serve(
        self, payload: Any, principal: Principal, *, problem: HttpError | None = None
    ) -> tuple[Answer, Headers]:
        """Charge, answer and count one request; with the header fields that say how the rates
        stand. `problem` is why there is no payload: that costs, and is no use. Raises HttpError, or
        a Denied."""
        admission, meter = self._runtime.admission, self._runtime.meter
        admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
        standing = await admission.charge(principal, weight_of(payload), default=DEFAULT_RATE)
        try:
            if problem is not None:
                raise problem
            answer = await self.answer(payload)
        except orjson.JSONEncodeError as error:
            nested = "The request is nested too deeply."
            raise HttpError(400, "bad_json", nested, headers=standing) from error
        except HttpError as error:
            error.headers = [*error.headers, *standing]
            raise
        if answer.status == 200 and (more := weight_of_answer(payload, answer.body)):
            standing = admission.owe(principal, more, default=DEFAULT_RATE)
        slot = meter.slot(principal.key_id, CHANNEL)
        meter.add_requests(slot, 1)
        meter.add(slot, 0, len(answer.body))
        return answer, standing

    async def answer(self, payload: Any) -> Answer:
        """The answer to one request. Raises HttpError."""
        kind = payload.get("type") if isinstance(payload, dict) else None
        if not isinstance(kind, str):
            raise HttpError(
                422, "bad_request", "The body must be a JSON object with a string 'type'."
            )
        if kind in NOT_FOR_CUSTOMERS or "outPath" in payload:
            raise HttpError(403, "not_served", f"{kind} is not served here.")
        began_s = time.perf_counter()
        answer = await self._own(kind, payload) if kind in OWN else None
        by = "hub" if answer is not None else "origin"
        if answer is None:
            # What was checked is what is sent: a repeated key may mean another to another parser.
            answer = await self._origins.ask(orjson.dumps(payload))
        metrics.SECONDS.labels(by).observe(time.perf_counter() - began_s)
        metrics.REQUESTS.labels(str(answer.status), by).inc()
        return answer

    async def _own(self, kind: str, payload: Message) -> Answer | None:
        """From the hub, or None when it has nothing (a coin without a book, no live worker): ask an
        origin."""
        if not self._runtime.workers:
            return None
        subscription = {
            **payload,
            "type": "trades" if kind == "recentTrades" else kind,
            "fast": False,
        }
        subscription.pop("nLevels", None)
        try:
            topic, _ = parse_subscription(subscription)
        except InvalidSubscription:
            return _json(500, b"null")  # what the exchange says to a bad aggregation
        except BadSubscription as bad:
            raise HttpError(422, "bad_request", f"{kind}: {bad}.") from bad
        if not self._runtime.catalogue().knows(topic):
            return _json(200, b"null")
        feed = self._runtime.hub.touch(topic, now_s=time.monotonic())
        if not feed.epoch:
            await self._first_frame(feed)
        frame = feed.snapshot.frame()
        if not feed.epoch or (frame is None and kind != "recentTrades"):
            return None
        return _json(200, _body_of(kind, frame))

    async def _first_frame(self, feed: Feed) -> None:
        if feed.why_not is not None:
            return
        alive = asyncio.get_running_loop().create_future()

        def notice() -> None:
            if not alive.done():
                alive.set_result(None)

        feed.watchers.append(notice)
        try:
            async with asyncio.timeout(FIRST_FRAME_S):
                await alive
        except TimeoutError:
            if notice in feed.watchers:
                feed.watchers.remove(notice)


def _body_of(kind: str, frame: bytes | None) -> bytes:
    """The `/info` body inside a WebSocket frame `{"channel":…,"data":…}`."""
    if frame is None:
        return b"[]"
    data = frame[frame.index(b'"data":') + 7 : -1]
    if kind == "allMids":
        return data[data.index(b'"mids":') + 7 : -1]
    if kind == "recentTrades":
        return orjson.dumps(orjson.loads(data)[::-1])  # newest first
    return data


def _json(status: int, body: bytes) -> Answer:
    return Answer(status, b"application/json", body)


class InfoEndpoint:
    """The ASGI application of `/info` and `/<key>/info`. No middleware: one request costs one
    dictionary look-up more."""

    def __init__(self, service: Callable[[], Info]) -> None:
        self._service = service

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            status, headers, body = await self._respond(scope, receive)
        except HttpError as error:
            status, headers, body = error.status, JSON_HEADERS + error.headers, error.body
        except Denied as denied:
            extra = [header for header in denied.headers if header[0] != b"content-type"]
            status, headers, body = denied.http_status, JSON_HEADERS + extra, denied.body
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Message, receive: Receive) -> tuple[int, Headers, bytes]:
        if scope["method"] == "OPTIONS":
            return 204, _preflight(), b""
        if scope["method"] != "POST":
            raise HttpError(
                405, "method_not_allowed", "Use POST.", headers=[(b"allow", b"POST, OPTIONS")]
            )
        current = runtime.current()
        path_key, _ = split_path(scope["path"])
        raw_key = presented_key(path_key, scope["headers"])
        principal = await current.admission.authenticate(
            raw_key, scope=Scope.INFO, caller=caller_of(scope)
        )
        # Read before it is charged: what it weighs is in it.
        payload, problem = await _payload(scope, receive)
        answer, standing = await self._service().serve(payload, principal, problem=problem)
        headers = [(b"content-type", answer.content_type), *JSON_HEADERS[1:], *standing]
        return answer.status, headers, answer.body


async def _payload(scope: Message, receive: Receive) -> tuple[Any, HttpError | None]:
    """The request in a body, or why there is none: that is charged as well."""
    try:
        return orjson.loads(await _read(scope, receive)), None
    except orjson.JSONDecodeError as error:
        return None, HttpError(400, "bad_json", f"The body is not JSON: {error}.")
    except HttpError as error:
        return None, error


async def _read(scope: Message, receive: Receive) -> bytes:
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise HttpError(415, "unsupported_media_type", "Send Content-Type: application/json.")
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpError(400, "incomplete", "The request ended before its body.")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise HttpError(413, "too_large", f"The body is larger than {MAX_BODY_BYTES} bytes.")
        if not message.get("more_body"):
            return body


def _preflight() -> Headers:
    return [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", b"POST, OPTIONS"),
        (b"access-control-allow-headers", b"content-type, x-api-key, authorization"),
        (b"access-control-max-age", b"86400"),
    ]
