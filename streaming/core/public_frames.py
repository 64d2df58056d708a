"""Which topic a frame of the exchange belongs to, from nothing but the frame.

A frame says its channel and usually its coin, user, interval or dex; what it does not say must be
the only one of its kind on its connection. `slot_of` is what a frame shows of a topic: two topics
of one slot need two connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from streaming.core.topic import Kind, Topic

#: The list that a user feed's frames carry, by kind. Such a feed opens with a snapshot of it.
ITEMS = {
    Kind.USER_FILLS: "fills",
    Kind.USER_FUNDINGS: "fundings",
    Kind.USER_LEDGER: "nonFundingLedgerUpdates",
    Kind.USER_HISTORICAL_ORDERS: "orderHistory",
    Kind.USER_TWAP_SLICE_FILLS: "twapSliceFills",
    Kind.USER_TWAP_HISTORY: "history",
}
#: Their frames do not name the user.
UNNAMED = frozenset({Kind.ORDER_UPDATES, Kind.USER_EVENTS, Kind.NOTIFICATION})
#: Event feeds without any snapshot: what was missed is gone.
SNAPLESS = UNNAMED | {Kind.OUTCOME_META_UPDATES}


class Slot(NamedTuple):
    """What a frame shows of its topic."""

    kind: Kind
    coin: str = ""
    dex: str = ""
    user: str = ""
    interval: str = ""


def slot_of(topic: Topic) -> Slot:
    """What the topic's frames will show of it."""
    user = "" if topic.kind in UNNAMED else topic.user
    return Slot(topic.kind, topic.coin, topic.dex, user, topic.interval)


def slot_in(channel: str, body: Any) -> Slot | None:
    """What a frame of `channel` with `body` as its data shows; None for an unknown channel.

    Raises KeyError or TypeError for a frame that lacks what its channel always has.
    """
    read = _READERS.get(channel)
    return None if read is None else read(body)


def text(body: Any, key: str, default: str | None = None) -> str:
    """A string of the frame. Raises KeyError or TypeError."""
    value = body[key] if default is None else body.get(key, default)
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return value


def _user(body: Any) -> str:
    return text(body, "user").lower()


def _need(body: Any, key: str, kind: type) -> None:
    if not isinstance(body[key], kind):
        raise TypeError(f"{key} is not a {kind.__name__}")


def _is(body: Any, kind: type) -> None:
    if not isinstance(body, kind):
        raise TypeError(f"data is not a {kind.__name__}")


Reader = Callable[[Any], Slot]


def _whole(kind: Kind, of: type) -> Reader:
    """A feed of which there is one, or one whose frames name nothing."""

    def read(body: Any) -> Slot:
        _is(body, of)
        return Slot(kind)

    return read


def _by_coin(kind: Kind, field: str) -> Reader:
    def read(body: Any) -> Slot:
        body[field]
        return Slot(kind, coin=text(body, "coin"))

    return read


def _by_dex(kind: Kind, field: str, of: type) -> Reader:
    def read(body: Any) -> Slot:
        _need(body, field, of)
        return Slot(kind, dex=text(body, "dex", ""))

    return read


def _by_user(kind: Kind, field: str, of: type, *, has_dex: bool = False) -> Reader:
    def read(body: Any) -> Slot:
        _need(body, field, of)
        return Slot(kind, user=_user(body), dex=text(body, "dex", "") if has_dex else "")

    return read


def _candle(body: Any) -> Slot:
    _need(body, "t", int)
    return Slot(Kind.CANDLE, coin=text(body, "s"), interval=text(body, "i"))


def _asset_data(body: Any) -> Slot:
    return Slot(Kind.ACTIVE_ASSET_DATA, coin=text(body, "coin"), user=_user(body))


def _web_data2(body: Any) -> Slot:
    return Slot(Kind.WEB_DATA2, user=_user(body))


def _web_data3(body: Any) -> Slot:
    return Slot(Kind.WEB_DATA3, user=_user(body["userState"]))


_READERS: dict[str, Reader] = {
    "l2Book": _by_coin(Kind.L2_BOOK, "levels"),
    "bbo": _by_coin(Kind.BBO, "bbo"),
    "allMids": _by_dex(Kind.ALL_MIDS, "mids", dict),
    "candle": _candle,
    "activeAssetCtx": _by_coin(Kind.ACTIVE_ASSET_CTX, "ctx"),
    "activeSpotAssetCtx": _by_coin(Kind.ACTIVE_ASSET_CTX, "ctx"),
    "assetCtxs": _by_dex(Kind.ASSET_CTXS, "ctxs", list),
    "spotAssetCtxs": _whole(Kind.SPOT_ASSET_CTXS, list),
    "allDexsAssetCtxs": _whole(Kind.ALL_DEXS_ASSET_CTXS, dict),
    "fastAssetCtxs": _whole(Kind.FAST_ASSET_CTXS, str),
    "outcomeMetaUpdates": _whole(Kind.OUTCOME_META_UPDATES, dict),
    "orderUpdates": _whole(Kind.ORDER_UPDATES, list),
    "user": _whole(Kind.USER_EVENTS, dict),
    "notification": _whole(Kind.NOTIFICATION, dict),
    **{kind.value: _by_user(kind, field, list) for kind, field in ITEMS.items()},
    "openOrders": _by_user(Kind.OPEN_ORDERS, "orders", list, has_dex=True),
    "clearinghouseState": _by_user(
        Kind.CLEARINGHOUSE_STATE, "clearinghouseState", dict, has_dex=True
    ),
    "allDexsClearinghouseState": _by_user(
        Kind.ALL_DEXS_CLEARINGHOUSE_STATE, "clearinghouseStates", list
    ),
    "spotState": _by_user(Kind.SPOT_STATE, "spotState", dict),
    "activeAssetData": _asset_data,
    "twapStates": _by_user(Kind.TWAP_STATES, "states", list, has_dex=True),
    "webData2": _web_data2,
    "webData3": _web_data3,
}
