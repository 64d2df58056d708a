"""The official WebSocket dialect: a client's text in, a request or the exact error text out. Pure.

Source: protocol observations of mainnet 2026-09; verbatim acks and errors stand in the tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import orjson

from streaming.simulator.engine.tape import INTERVALS_MS

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
COIN_TYPES = frozenset({"bbo", "trades", "activeAssetCtx"})
#: User feeds without further parameters. `user` is the old name of `userEvents` and is echoed as
#: such.
USER_TYPES = frozenset(
    {
        "orderUpdates",
        "userEvents",
        "notification",
        "userFundings",
        "userNonFundingLedgerUpdates",
        "userHistoricalOrders",
        "userTwapSliceFills",
        "userTwapHistory",
    }
)
#: User feeds that take a dex.
DEX_TYPES = frozenset({"openOrders", "clearinghouseState", "twapStates"})
STATE_TYPES = frozenset(
    {"spotState", "allDexsClearinghouseState", "webData2", "webData3", *DEX_TYPES}
)
USER_FEEDS = USER_TYPES | STATE_TYPES | {"userFills", "activeAssetData"}

Subscription = dict[str, object]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Follow, or stop following, one normalised subscription; `text` is its compact JSON, its
    identity.
    """

    method: Literal["subscribe", "unsubscribe"]
    subscription: Subscription
    text: str


@dataclass(frozen=True, slots=True)
class Post:
    """A request answered on the socket; `kind` is `info` or `action`."""

    id: int
    kind: Literal["info", "action"]
    payload: dict[str, object]


@dataclass(frozen=True, slots=True)
class Ping:
    """Wants a pong."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a valid request; `error` is the text to answer."""

    error: str


Request = Subscribe | Post | Ping | Malformed


def parse(text: str) -> Request:
    """What a client's text frame asks for."""
    try:
        return _request(orjson.loads(text))
    except (ValueError, KeyError, TypeError):
        return Malformed(f"Error parsing JSON into valid websocket request: {text}")


def _request(body: object) -> Request:
    if not isinstance(body, dict):
        raise TypeError("not an object")
    match body["method"]:
        case "ping":
            return Ping()
        case "subscribe" | "unsubscribe" as method:
            subscription = normalise(body["subscription"])
            return Subscribe(method, subscription, orjson.dumps(subscription).decode())
        case "post":
            request = body["request"]
            if request["type"] not in ("info", "action"):
                raise ValueError("unknown request type")
            return Post(_integer(body["id"]), request["type"], _object(request["payload"]))
    raise ValueError("unknown method")


def normalise(raw: object) -> Subscription:
    """The subscription as the exchange echoes it: its own field order, defaults filled in,
    addresses in lower case.

    Raises ValueError, KeyError or TypeError for what the exchange cannot parse.
    """
    given = _object(raw)
    kind = "userEvents" if given["type"] == "user" else given["type"]
    if kind == "allMids":
        dex = _optional(given, "dex", str)
        return {"type": kind} if dex is None else {"type": kind, "dex": dex}
    if kind == "l2Book":
        return {
            "type": kind,
            "coin": _text(given["coin"]),
            "nSigFigs": _optional(given, "nSigFigs", int),
            "mantissa": _optional(given, "mantissa", int),
            "fast": bool(_optional(given, "fast", bool)),
        }
    if kind == "candle":
        interval = _text(given["interval"])
        if interval not in INTERVALS_MS:
            raise ValueError("unknown interval")
        return {"type": kind, "coin": _text(given["coin"]), "interval": interval}
    if kind in COIN_TYPES:
        return {"type": kind, "coin": _text(given["coin"])}
    if kind in USER_FEEDS:
        user: Subscription = {"type": kind, "user": _address(given["user"])}
        if kind == "userFills":
            user["aggregateByTime"] = bool(_optional(given, "aggregateByTime", bool))
        elif kind == "activeAssetData":
            user["coin"] = _text(given["coin"])
        elif kind in DEX_TYPES and "dex" in given:
            # Whatever was sent is repeated: strict clients wait for an ack with all their fields.
            user["dex"] = _optional(given, "dex", str)
        elif kind == "spotState" and "ignorePortfolioMargin" in given:
            user["ignorePortfolioMargin"] = _optional(given, "ignorePortfolioMargin", bool)
        return user
    raise ValueError("unknown subscription type")


def is_valid_grouping(n_sig_figs: object, mantissa: object) -> bool:
    """Whether l2Book takes this aggregation; the exchange drops the connection, or answers 500,
    when it does not.
    """
    if n_sig_figs is None:
        return mantissa is None
    if not isinstance(n_sig_figs, int) or not 2 <= n_sig_figs <= 5:
        return False
    return mantissa is None or (n_sig_figs == 5 and mantissa in (2, 5))


def ack(request: Subscribe) -> bytes:
    """The answer to a subscribe or unsubscribe that took effect."""
    return orjson.dumps(
        {
            "channel": "subscriptionResponse",
            "data": {"method": request.method, "subscription": request.subscription},
        }
    )


def error(text: str) -> bytes:
    """An error frame."""
    return orjson.dumps({"channel": "error", "data": text})


PONG = b'{"channel":"pong"}'


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a count")
    return value


def _address(value: object) -> str:
    if not isinstance(value, str) or not ADDRESS.match(value):
        raise ValueError("not an address")
    return value.lower()


def _optional(given: dict[str, object], key: str, kind: type) -> object:
    value = given.get(key)
    if value is not None and (
        not isinstance(value, kind) or (kind is int and isinstance(value, bool))
    ):
        raise TypeError(f"{key} is not {kind.__name__}")
    return value
