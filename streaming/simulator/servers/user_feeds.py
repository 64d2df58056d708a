"""The official user feeds: what one user's subscription gets at once, and after a block.

Pure reads of an exchange and a block. Histories come newest first in a snapshot, in the order of
the block afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from streaming.simulator.engine.block import Block, Event
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.servers import market_info, user_info
from streaming.simulator.servers.dialect import Subscription

#: Feeds that begin with a snapshot, with the key their items stand under.
ITEMS = {
    "userFills": "fills",
    "userFundings": "fundings",
    "userNonFundingLedgerUpdates": "nonFundingLedgerUpdates",
    "userHistoricalOrders": "orderHistory",
    "userTwapSliceFills": "twapSliceFills",
    "userTwapHistory": "history",
}
#: Whole states, sent again when they have changed.
STATES = frozenset(
    {
        "openOrders",
        "clearinghouseState",
        "spotState",
        "allDexsClearinghouseState",
        "webData2",
        "webData3",
        "activeAssetData",
        "twapStates",
    }
)
#: Statuses with which the exchange, not its owner, takes an order away.
NON_USER_CANCELS = frozenset(
    {"selfTradeCanceled", "marginCanceled", "reduceOnlyCanceled", "siblingFilledCanceled"}
)
DEXES = ("", "xyz")
#: Times that move whatever else does: a state that differs in nothing else is not sent again.
CLOCKS = frozenset({"time", "serverTime"})


# --- events ---------------------------------------------------------------------------------------


def snapshot_rows(exchange: Exchange, kind: str, user: str) -> list[Event]:
    """A user's history as the first frame of the feed shows it, newest first."""
    account = exchange.accounts.get(user)
    if account is None:
        return []
    match kind:
        case "userFills":
            return user_info.user_fills(account)
        case "userTwapSliceFills":
            return [slice_row(fill) for fill in reversed(account.fills) if fill["twapId"]]
        case "userHistoricalOrders":
            return user_info.historical_orders(exchange, user)
        case "userFundings":
            return list(reversed(account.fundings))
        case "userNonFundingLedgerUpdates":
            return list(reversed(account.ledger))
    return list(reversed(account.twaps))


def block_rows(exchange: Exchange, block: Block, kind: str, user: str) -> list[Event]:
    """What a block added to one feed of one user. For feeds of `ITEMS` and orderUpdates."""
    account = exchange.accounts.get(user)
    if account is None:
        return []
    match kind:
        case "userFills":
            return [user_info.api_fill(row) for who, row in block.fills if who == user]
        case "userTwapSliceFills":
            return [slice_row(row) for who, row in block.fills if who == user and row["twapId"]]
        case "orderUpdates":
            return [
                user_info.order_update(row, block.time_ms)
                for row in block.statuses
                if row["user"] == user
            ]
        case "userHistoricalOrders":
            return [
                {
                    "order": row["order"],
                    "status": row["status"],
                    "statusTimestamp": block.time_ms,
                }
                for row in block.statuses
                if row["user"] == user
            ]
        case "userFundings":
            return _since(account.fundings, block.time_ms) if block.misc else []
        case "userNonFundingLedgerUpdates":
            return _since(account.ledger, block.time_ms) if block.misc else []
        case "userTwapHistory":
            return _twaps(block, user)
    return []


def user_events(exchange: Exchange, block: Block, user: str) -> Iterator[Event]:
    """The `data` of each userEvents frame of a block: one kind of event a frame."""

    def rows(kind: str) -> list[Event]:
        return block_rows(exchange, block, kind, user)

    if fills := rows("userFills"):
        yield {"fills": fills}
    for funding in rows("userFundings"):
        yield {"funding": funding}
    canceled = [
        {"coin": order["coin"], "oid": order["oid"]}
        for row in block.statuses
        if row["user"] == user and row["status"] in NON_USER_CANCELS
        for order in (cast("Event", row["order"]),)
    ]
    if canceled:
        yield {"nonUserCancel": canceled}
    if history := rows("userTwapHistory"):
        yield {"twapHistory": history}
    if slices := rows("userTwapSliceFills"):
        yield {"twapSliceFills": slices}


def slice_row(fill: Event) -> Event:
    """A fill of a TWAP as userTwapSliceFills shows it."""
    return {"fill": user_info.api_fill(fill), "twapId": fill["twapId"]}


def _since(rows: object, time_ms: int) -> list[Event]:
    found: list[Event] = []
    for row in reversed(list(cast("list[Event]", rows))):
        if row["time"] != time_ms:
            break
        found.insert(0, row)
    return found


def _twaps(block: Block, user: str) -> list[Event]:
    return [
        {
            "time": block.time_ms // 1_000,
            "state": row["state"],
            "status": {"status": row["status"]},
            "twapId": row["twap_id"],
        }
        for row in block.twaps
        if cast("Event", row["state"])["user"] == user
    ]


# --- states ---------------------------------------------------------------------------------------


def state(exchange: Exchange, subscription: Subscription, now_ms: int) -> Event:
    """The `data` of a state feed's frame now. Raises KeyError for a kind not in `STATES`."""
    return _STATES[str(subscription["type"])](exchange, subscription, now_ms)


def _clearinghouse(exchange: Exchange, user: str, dex: str, now_ms: int) -> Event:
    account = exchange.accounts.get(user)
    return user_info.clearinghouse_state(exchange, account, dex=dex, now_ms=now_ms)


def _who(subscription: Subscription) -> tuple[str, str]:
    return str(subscription["user"]), str(subscription.get("dex") or "")


def _clearinghouse_state(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    user, dex = _who(wanted)
    held = _clearinghouse(exchange, user, dex, now_ms)
    return {"dex": dex, "user": user, "clearinghouseState": held}


def _all_dexs(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    user, _ = _who(wanted)
    states = [[dex, _clearinghouse(exchange, user, dex, now_ms)] for dex in DEXES]
    return {"user": user, "clearinghouseStates": states}


def _open_orders(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    user, dex = _who(wanted)
    return {"dex": dex, "user": user, "orders": user_info.frontend_orders(exchange, user, dex)}


def _spot_state(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    user, _ = _who(wanted)
    held = user_info.spot_state(exchange, exchange.accounts.get(user))
    return {"user": user, "spotState": held}


def _twap_states(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    user, dex = _who(wanted)
    return {"dex": dex, "user": user, "states": running_twaps(exchange, user, dex)}


def running_twaps(exchange: Exchange, user: str, dex: str) -> list[object]:
    """`[[twapId, state], …]` of one dex; spot counts to the main one."""
    account = exchange.accounts.get(user)
    rows = account.running_twaps.items() if account else ()
    return [[id, row] for id, row in rows if exchange.coins[str(row["coin"])].dex == dex]


def active_asset_data(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    """`activeAssetData`: leverage and what the user could still trade of one perp."""
    user, _ = _who(wanted)
    return user_info.active_asset_data(
        exchange, exchange.accounts.get(user), user, exchange.coins[str(wanted["coin"])]
    )


def web_data2(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    """`webData2`: what the exchange's own page shows of a user."""
    user, _ = _who(wanted)
    return {
        "clearinghouseState": _clearinghouse(exchange, user, "", now_ms),
        "leadingVaults": [],
        "totalVaultEquity": "0.0",
        "openOrders": user_info.frontend_orders(exchange, user, ""),
        "agentAddress": None,
        "agentValidUntil": None,
        "cumLedger": "0.0",
        "meta": market_info.meta(exchange, ""),
        "assetCtxs": [
            market_info.ctx(exchange, coin, now_ms) for coin in market_info.perps(exchange, "")
        ],
        "serverTime": now_ms,
        "isVault": False,
        "user": user,
        "twapStates": running_twaps(exchange, user, ""),
        "spotState": user_info.spot_state(exchange, exchange.accounts.get(user)),
        "spotAssetCtxs": [
            market_info.ctx(exchange, coin, now_ms) for coin in market_info.spots(exchange)
        ],
        "perpsAtOpenInterestCap": [],
    }


def _web_data3(exchange: Exchange, wanted: Subscription, now_ms: int) -> Event:
    user, _ = _who(wanted)
    return {
        "userState": {
            "agentAddress": None,
            "agentValidUntil": None,
            "cumLedger": "0.0",
            "serverTime": now_ms,
            "isVault": False,
            "user": user,
        },
        "perpDexStates": [
            {"totalVaultEquity": "0.0", "perpsAtOpenInterestCap": [], "leadingVaults": []}
            for _ in DEXES
        ],
    }


_STATES: dict[str, Callable[[Exchange, Subscription, int], Event]] = {
    "openOrders": _open_orders,
    "clearinghouseState": _clearinghouse_state,
    "spotState": _spot_state,
    "allDexsClearinghouseState": _all_dexs,
    "webData2": web_data2,
    "webData3": _web_data3,
    "activeAssetData": active_asset_data,
    "twapStates": _twap_states,
}


def without_clocks(value: object) -> object:
    """`value` without the times that move by themselves, for comparing states."""
    if isinstance(value, dict):
        return {key: without_clocks(each) for key, each in value.items() if key not in CLOCKS}
    return [without_clocks(each) for each in value] if isinstance(value, list) else value
