"""The exchange's own WebSocket dialect: frame in → request; outcome → bytes.

Texts are the exchange's, to the letter, because clients match on them (nktkas looks for the JSON
inside an error text, ccxt for the words `Already subscribed`). Deviations, on purpose: a coin or
aggregation the exchange would drop the whole connection for gets an `Invalid subscription` error
frame here.

Source: live captures of 2026 and `order_book_server` (for `nLevels` and `l4Book`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
import orjson

from streaming.core.topic import COIN_PATTERN, DEFAULT_LEVELS, FAST_LEVELS, MAX_LEVELS, Kind, Topic

T = TypeVar("T")

ADDRESS_PATTERN = re.compile(r"0x[0-9a-fA-F]{40}\Z")
INTERVALS = (
    "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d", "3d", "1w", "1M",
)  # fmt: skip

#: Old names that are still sent: hummingbot asks for `user`.
_ALIASES = {"user": "userEvents"}
#: Feeds of the explorer's host; the trading host acknowledges one of them and then stays silent.
_ELSEWHERE = ("explorerBlock", "explorerTxs")
EXPLORER_URL = "wss://rpc.hyperliquid.xyz/ws"

_USER = ("user",)
#: The fields of each type but `l2Book`, in the order of the acknowledgement. Source: recorded acks
#: (a candle's names its interval first).
_FIELDS: dict[str, tuple[str, ...]] = {
    "bbo": ("coin",),
    "trades": ("coin",),
    "l4Book": ("coin",),
    "activeAssetCtx": ("coin",),
    "candle": ("interval", "coin"),
    "allMids": ("dex",),
    "assetCtxs": ("dex",),
    "spotAssetCtxs": (),
    "allDexsAssetCtxs": (),
    "fastAssetCtxs": (),
    "outcomeMetaUpdates": (),
    "orderUpdates": _USER,
    "userFills": ("user", "aggregateByTime"),
    "userEvents": _USER,
    "userTwapSliceFills": _USER,
    "userTwapHistory": _USER,
    "userFundings": _USER,
    "userNonFundingLedgerUpdates": _USER,
    "userHistoricalOrders": _USER,
    "notification": _USER,
    "openOrders": ("user", "dex"),
    "clearinghouseState": ("user", "dex"),
    "allDexsClearinghouseState": _USER,
    "spotState": ("user", "ignorePortfolioMargin"),
    "activeAssetData": ("user", "coin"),
    "twapStates": ("user", "dex"),
    "webData2": _USER,
    "webData3": _USER,
}

PONG = b'{"channel":"pong"}'
TOO_MANY_MESSAGES = "Cannot send more than {limit} messages per minute."
TOO_MANY_SUBSCRIPTIONS = "Cannot subscribe to more than {limit} channels."
TOO_MANY_USERS = "Cannot track more than {limit} total users."
#: The exchange has no such limit; in the manner of its own.
TOO_MANY_COINS = "Cannot track more than {limit} total coins."


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
    """An `/info` or `/exchange` request over the socket; `kind` is `info` or `action`.

    `body` is the payload of an action as it was written: what is signed is sent as it came.
    """

    post_id: int
    kind: str
    payload: Any
    body: bytes = b""


class _PostedRequest(msgspec.Struct):
    payload: msgspec.Raw


class _Posted(msgspec.Struct):
    request: _PostedRequest


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame that asks for nothing we can do; `text` is the error frame's text."""

    text: str


Request = Subscribe | Unsubscribe | Ping | Post | Refused


class BadSubscription(ValueError):
    """The object has no meaning as a subscription: unknown type, missing field, wrong JSON type."""


class ServedElsewhere(BadSubscription):
    """A feed of another host; the text says which, and ends in the normalised JSON."""


class InvalidSubscription(ValueError):
    """A well-formed subscription with a value out of range; the text is its normalised JSON."""


def parse(text: str) -> Request:
    """What one client frame asks for. Never raises: everything unreadable becomes `Refused`."""
    try:
        frame = orjson.loads(text)
        request = _request(frame)
        if isinstance(request, Post) and request.kind == "action":
            body = bytes(msgspec.json.decode(text, type=_Posted).request.payload)
            return replace(request, body=body)
        return request
    except ServedElsewhere as elsewhere:
        return Refused(f"Invalid subscription: {elsewhere}")
    except InvalidSubscription as invalid:
        return Refused(f"Invalid subscription: {invalid}")
    except (ValueError, msgspec.DecodeError):  # BadSubscription and orjson's decode error too
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
    addresses in lower case, unknown fields gone).

    Raises:
        BadSubscription: not an object, unknown type, a field missing or of the wrong JSON type; the
            text begins with the field's name.
        InvalidSubscription: a value the exchange does not accept.
    """
    if not isinstance(subscription, dict):
        raise BadSubscription("not an object")
    given = subscription.get("type")
    if given in _ELSEWHERE:
        raise ServedElsewhere(
            f"type is served by {EXPLORER_URL}, not here: {_compact({'type': given})}"
        )
    kind = _ALIASES.get(given, given) if isinstance(given, str) else None
    if kind == "l2Book":
        return _l2_book(subscription)
    fields = _FIELDS.get(kind) if kind is not None else None
    if kind is None or fields is None:
        raise BadSubscription("type is not known")
    return _plain(Kind(kind), fields, subscription)


def channel_of(topic: Topic) -> str:
    """The channel under which the exchange sends the topic's frames."""
    if topic.kind is Kind.USER_EVENTS:
        return "user"
    if topic.kind is Kind.ACTIVE_ASSET_CTX and is_spot(topic.coin):
        return "activeSpotAssetCtx"
    return topic.kind.value


def is_spot(coin: str) -> bool:
    """Whether a coin is a spot pair, by its name: `PURR/USDC`, `@107`."""
    return coin.startswith("@") or "/" in coin


def _plain(kind: Kind, fields: tuple[str, ...], subscription: dict[str, Any]) -> tuple[Topic, str]:
    normal: dict[str, Any] = {"type": kind.value}
    values: dict[str, Any] = {}
    for field in fields:
        match field:
            case "coin":
                values["coin"] = normal["coin"] = _coin(subscription)
            case "user":
                values["user"] = normal["user"] = _address(subscription)
            case "interval":
                values["interval"] = normal["interval"] = _interval(subscription)
            case "dex":
                values["dex"] = _optional(subscription, "dex", str) or ""
                # Whatever was sent is repeated: nktkas waits for an ack with every field of its
                # own.
                if "dex" in subscription:
                    normal["dex"] = subscription["dex"]
            case "aggregateByTime":
                values["aggregate"] = _optional(subscription, field, bool) or False
                normal[field] = values["aggregate"]
            case "ignorePortfolioMargin":
                # Only the plain form is served: a portfolio-margin account looks different in the
                # other.
                if field in subscription:
                    normal[field] = _optional(subscription, field, bool)
    echo = _compact(normal)
    names = (values.get("coin"), values.get("dex") or None)
    if normal.get("ignorePortfolioMargin") or not all(
        name is None or COIN_PATTERN.match(name) for name in names
    ):
        raise InvalidSubscription(echo)
    return Topic(kind, **values), echo


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


def _coin(subscription: dict[str, Any]) -> str:
    coin = subscription.get("coin")
    if not isinstance(coin, str):
        raise BadSubscription("coin must be a string")
    return coin


def _address(subscription: dict[str, Any]) -> str:
    user = subscription.get("user")
    if not isinstance(user, str) or not ADDRESS_PATTERN.match(user):
        raise BadSubscription("user must be an address: 0x and 40 hexadecimal digits")
    return user.lower()


def _interval(subscription: dict[str, Any]) -> str:
    interval = subscription.get("interval")
    if not isinstance(interval, str) or interval not in INTERVALS:
        raise BadSubscription(f"interval must be one of {', '.join(INTERVALS)}")
    return interval


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
