"""The exchange's own WebSocket dialect: frame in → request; outcome → bytes.

Texts are the exchange's, to the letter, because clients match on them (nktkas looks for the JSON
inside an error text, ccxt for the words `Already subscribed`). Deviations, on purpose: a coin or
aggregation the exchange would drop the whole connection for gets an `Invalid subscription` error
frame here.

Source: live captures of 2026 and `order_book_server` (for `nLevels` and `l4Book`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from streaming.core.topic import COIN_PATTERN, DEFAULT_LEVELS, FAST_LEVELS, MAX_LEVELS, Kind, Topic

T = TypeVar("T")

PONG = b'{"channel":"pong"}'
TOO_MANY_MESSAGES = "Cannot send more than {limit} messages per minute."
TOO_MANY_SUBSCRIPTIONS = "Cannot subscribe to more than {limit} channels."


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A wish to follow `topic`; `echo` is the normalised subscription as compact JSON."""

    topic: Topic
    echo: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A wish to stop following `topic`."""

    topic: Topic
    echo: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The application-level ping; answered by `PONG`."""


@dataclass(frozen=True, slots=True)
class Post:
    """An `/info` or `/exchange` request over the socket; `kind` is `info` or `action`."""

    post_id: int
    kind: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame that asks for nothing we can do; `text` is the error frame's text."""

    text: str


Request = Subscribe | Unsubscribe | Ping | Post | Refused


class BadSubscription(ValueError):
    """The object has no meaning as a subscription: unknown type, missing field, wrong JSON type."""


class InvalidSubscription(ValueError):
    """A well-formed subscription with a value out of range; the text is its normalised JSON."""


def parse(text: str) -> Request:
    """What one client frame asks for. Never raises: everything unreadable becomes `Refused`."""
    try:
        frame = orjson.loads(text)
        return _request(frame)
    except InvalidSubscription as invalid:
        return Refused(f"Invalid subscription: {invalid}")
    except ValueError:  # BadSubscription and orjson's decode error
        return Refused(f"Error parsing JSON into valid websocket request: {text}")


def _request(frame: Any) -> Request:
    if not isinstance(frame, dict):
        raise BadSubscription("not an object")
    match frame.get("method"):
        case "subscribe":
            return Subscribe(*parse_subscription(frame.get("subscription")))
        case "unsubscribe":
            return Unsubscribe(*parse_subscription(frame.get("subscription")))
        case "ping":
            return Ping()
        case "post":
            return _post(frame)
        case _:
            raise BadSubscription("unknown method")


def _post(frame: dict[str, Any]) -> Post:
    post_id, request = frame.get("id"), frame.get("request")
    if type(post_id) is not int or post_id < 0 or not isinstance(request, dict):
        raise BadSubscription("post needs an id and a request")
    kind = request.get("type")
    if kind not in ("info", "action") or "payload" not in request:
        raise BadSubscription("post needs a type and a payload")
    return Post(post_id, kind, request["payload"])


def parse_subscription(subscription: Any) -> tuple[Topic, str]:
    """The topic a subscription object names, and its normalised compact JSON (defaults filled in,
    unknown fields gone).

    Raises:
        BadSubscription: not an object, unknown type, a field missing or of the wrong JSON type.
        InvalidSubscription: a value the exchange does not accept.
    """
    if not isinstance(subscription, dict):
        raise BadSubscription("not an object")
    match subscription.get("type"):
        case "l2Book":
            return _l2_book(subscription)
        case "bbo" | "trades" | "l4Book" as kind:
            coin = _coin(subscription)
            echo = _compact({"type": kind, "coin": coin})
            if not COIN_PATTERN.match(coin):
                raise InvalidSubscription(echo)
            return Topic(Kind(kind), coin), echo
        case "allMids":
            return _all_mids(subscription)
        case _:
            raise BadSubscription("unknown type")


def _l2_book(subscription: dict[str, Any]) -> tuple[Topic, str]:
    coin = _coin(subscription)
    n_sig_figs = _optional(subscription, "nSigFigs", int)
    n_levels = _optional(subscription, "nLevels", int)
    mantissa = _optional(subscription, "mantissa", int)
    fast = _optional(subscription, "fast", bool) or False
    normal: dict[str, Any] = {"type": "l2Book", "coin": coin, "nSigFigs": n_sig_figs}
    if n_levels is not None:  # not a public field: echoed only to those who sent it
        normal["nLevels"] = n_levels
    echo = _compact({**normal, "mantissa": mantissa, "fast": fast})
    levels_ok = n_levels is None or 1 <= n_levels <= MAX_LEVELS
    figures_ok = n_sig_figs is None or 2 <= n_sig_figs <= 5
    mantissa_ok = mantissa is None or (n_sig_figs == 5 and mantissa in (2, 5))
    if not (levels_ok and figures_ok and mantissa_ok and COIN_PATTERN.match(coin)):
        raise InvalidSubscription(echo)
    levels = min(n_levels or DEFAULT_LEVELS, FAST_LEVELS) if fast else n_levels or DEFAULT_LEVELS
    topic = Topic(
        Kind.L2_BOOK, coin, n_levels=levels, n_sig_figs=n_sig_figs, mantissa=mantissa, fast=fast
    )
    return topic, echo


def _all_mids(subscription: dict[str, Any]) -> tuple[Topic, str]:
    dex = _optional(subscription, "dex", str) or ""
    # Whatever was sent is repeated: nktkas waits for an ack with every field of its own.
    is_sent = subscription.get("dex") is not None
    echo = _compact({"type": "allMids", "dex": dex} if is_sent else {"type": "allMids"})
    if dex and not COIN_PATTERN.match(dex):
        raise InvalidSubscription(echo)
    return Topic(Kind.ALL_MIDS, dex=dex), echo


def _coin(subscription: dict[str, Any]) -> str:
    coin = subscription.get("coin")
    if not isinstance(coin, str):
        raise BadSubscription("coin must be a string")
    return coin


def _optional(subscription: dict[str, Any], field: str, kind: type[T]) -> T | None:
    value = subscription.get(field)
    # `type is`, because a JSON true would pass for the integer 1.
    if value is not None and type(value) is not kind:
        raise BadSubscription(f"{field} must be {kind.__name__}")
    return value


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()


def acknowledged(method: str, echo: str) -> bytes:
    """The ack of a subscribe or unsubscribe."""
    return (
        f'{{"channel":"subscriptionResponse","data":{{"method":"{method}","subscription":{echo}}}}}'
    ).encode()


def error(text: str) -> bytes:
    """An error frame."""
    return b'{"channel":"error","data":' + orjson.dumps(text) + b"}"


def post_answer(post_id: int, kind: str, payload: bytes) -> bytes:
    """A post's answer; `payload` is ready JSON."""
    return b'{"channel":"post","data":{"id":%d,"response":{"type":"%s","payload":%s}}}' % (
        post_id,
        kind.encode(),
        payload,
    )
