"""Books, mids and recent trades from this process's hub: a read leases the topic like a customer
would, so the next one is answered from memory."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import orjson

from gateway.http.errors import HttpError
from gateway.http.routes import Source
from gateway.http.served import Served
from gateway.upstreams.posts import Answer
from streaming import runtime
from streaming.core.dialects.official import (
    BadSubscription,
    InvalidSubscription,
    parse_subscription,
)
from streaming.core.hub import Feed

#: How long to wait for the first frame of a topic nobody followed until now. It takes 1–2 ms from
#: an own node.
FIRST_FRAME_S = 1.0
_TIME = re.compile(rb'"time":(\d{13})\b')


async def answer(
    current: runtime.Runtime, kind: str, payload: dict[str, Any], *, may_be_old: bool = False
) -> Served | None:
    """From the hub, or None when it has nothing (a coin without a book, no live worker), or, unless
    it `may_be_old`, when no block came for a while: ask an origin.

    Raises HttpError for a request that the exchange would refuse.
    """
    if not current.workers:
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
        return _served(500, b"null")  # what the exchange says to a bad aggregation
    except BadSubscription as bad:
        raise HttpError(422, "bad_request", f"{kind}: {bad}.") from bad
    if not current.catalogue().knows(topic):
        return _served(200, b"null")
    now_s = time.monotonic()
    feed = current.hub.touch(topic, now_s=now_s)
    if not feed.epoch:
        await _first_frame(feed)
    frame = feed.snapshot.frame()
    if not feed.epoch or (frame is None and kind != "recentTrades"):
        return None
    freshness = current.hub.freshness
    is_old = feed.is_of_nodes and freshness.silence_ms(now_s=now_s) > runtime.STALE_S * 1_000
    if is_old and not may_be_old:
        return None
    height = feed.position.height if feed.is_of_nodes else None
    body = _body_of(kind, frame)
    age_s = freshness.age_ms(now_s=now_s) / 1_000
    if kind == "l2Book" and not feed.is_of_nodes and (told := _TIME.search(body)):
        # The public feed sends a book each 5 s, changed or not: its own time is the truth.
        age_s = max(0.0, time.time() - int(told[1]) / 1_000)
    return _served(200, body, height=height, age_s=age_s)


async def _first_frame(feed: Feed) -> None:
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


def _served(status: int, body: bytes, *, height: int | None = None, age_s: float = 0.0) -> Served:
    answer = Answer(status, b"application/json", body)
    return Served(answer, Source.HUB, height, time.monotonic() - age_s)
