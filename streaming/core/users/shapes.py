"""A node's events as the exchange's user feeds show them: same fields, same order.

All functions raise KeyError, TypeError, ValueError, AttributeError or IndexError for what is not
such an event.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from streaming.core.node_lines import parse_time_ns

Item = dict[str, Any]

# Source: recorded `orderUpdates` frames; a `cloid` only where there is one.
_ORDER = ("coin", "side", "limitPx", "sz", "oid", "timestamp", "origSz")
# Source: recorded `userFills` and `user` frames. The optional ones are shown when the node has
# them; `builder` and `deployerFee` of the node's fills are not shown.
_FILL_HEAD = (
    "coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid",
    "crossed", "fee", "tid",
)  # fmt: skip
_FILL_OPTIONAL = ("cloid", "liquidation")

#: Cancellations that the user did not ask for end in this, but for the two below.
_CANCELED = "Canceled"
_SYSTEM_CANCELS = frozenset({"scheduledCancel", "internalCancel"})


def order_update(event: Any) -> list[Item]:
    """An item of `orderUpdates`."""
    order = event["order"]
    shown = {field: order[field] for field in _ORDER}
    if order.get("cloid") is not None:
        shown["cloid"] = order["cloid"]
    return [{"order": shown, "status": event["status"], "statusTimestamp": _ms(event)}]


def historical_order(event: Any) -> list[Item]:
    """An item of `userHistoricalOrders`: the order whole, as the node has it."""
    if not isinstance(event["order"], dict):
        raise TypeError("not an order")
    return [
        {"order": event["order"], "status": event["status"], "statusTimestamp": _ms(event)},
    ]


def non_user_cancel(event: Any) -> list[Item]:
    """An item of `nonUserCancel` in `userEvents`; none for any other status."""
    name = event["status"]
    if not (name.endswith(_CANCELED) or name in _SYSTEM_CANCELS):
        return []
    return [{"coin": event["order"]["coin"], "oid": event["order"]["oid"]}]


def fill(event: Any) -> list[Item]:
    """An item of `userFills`."""
    body = event[1]
    shown = {field: body[field] for field in _FILL_HEAD}
    shown |= {field: body[field] for field in _FILL_OPTIONAL if body.get(field) is not None}
    shown["feeToken"] = body["feeToken"]
    if body.get("builderFee") is not None:
        shown["builderFee"] = body["builderFee"]
    shown["twapId"] = body.get("twapId")
    return [shown]


def twap_slice(event: Any) -> list[Item]:
    """An item of `userTwapSliceFills`; none for a fill that is no TWAP's."""
    if event[1].get("twapId") is None:
        return []
    (shown,) = fill(event)
    return [{"fill": shown, "twapId": shown.pop("twapId")}]


def fundings(event: Any, user: str) -> list[Item]:
    """The user's items of `userFundings`, one a coin. `usdc` is negative where the user paid."""
    if "Funding" not in event["inner"]:
        return []
    return [
        {
            "time": _ms(event),
            "coin": delta["coin"],
            "usdc": delta["funding_amount"],
            "szi": delta["szi"],
            "fundingRate": delta["funding_rate"],
            "nSamples": None,
        }
        for delta in event["inner"]["Funding"]["deltas"]
        if delta["user"] == user
    ]


def ledger_update(event: Any) -> list[Item]:
    """An item of `userNonFundingLedgerUpdates`."""
    if "LedgerUpdate" not in event["inner"]:
        return []
    delta = event["inner"]["LedgerUpdate"]["delta"]
    return [{"time": _ms(event), "hash": event["hash"], "delta": delta}]


def twap_status(event: Any) -> list[Item]:
    """An item of `userTwapHistory`. Its time is in seconds, and its status an object.

    Source: the schemas of nktkas/hyperliquid.
    """
    status = event["status"]
    shown = {"status": status}
    if isinstance(status, dict):
        shown = {"status": "error", "description": status["error"]}
    item = {"time": _ms(event) // 1000, "state": event["state"], "status": shown}
    twap_id = event.get("twap_id", event.get("twapId"))
    return [item if twap_id is None else {**item, "twapId": twap_id}]


def aggregated(fills: Iterable[Item]) -> list[Item]:
    """`aggregateByTime`: the fills of one order in one block as one, in the order of their firsts.

    Sizes, fees and profits add up, the price is the mean by size (8 decimals at most); everything
    else is the first one's.
    """
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for item in fills:
        key = (item["coin"], item["oid"], item["time"], item["crossed"], item["dir"])
        groups.setdefault(key, []).append(item)
    return [group[0] if len(group) == 1 else _together(group) for group in groups.values()]


def _together(group: list[Item]) -> Item:
    try:
        sizes = [Decimal(item["sz"]) for item in group]
        total = sum(sizes, Decimal(0))
        notional = sum(
            (Decimal(item["px"]) * sz for item, sz in zip(group, sizes, strict=True)), Decimal(0)
        )
        shown = {
            **group[0],
            "px": _text(notional / total),
            "sz": _text(total),
            **{field: _sum(group, field) for field in ("closedPnl", "fee")},
        }
        if any("builderFee" in item for item in group):
            shown["builderFee"] = _sum(group, "builderFee")
        return shown
    except InvalidOperation as error:
        raise ValueError("not a number") from error


def _sum(group: list[Item], field: str) -> str:
    return _text(sum((Decimal(item.get(field, "0.0")) for item in group), Decimal(0)))


def _text(value: Decimal) -> str:
    text = f"{value:.8f}".rstrip("0")
    text = text + "0" if text.endswith(".") else text
    return "0.0" if text == "-0.0" else text


def _ms(event: Any) -> int:
    return parse_time_ns(event["time"]) // 1_000_000
