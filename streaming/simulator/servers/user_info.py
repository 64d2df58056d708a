"""/info about a user: state, orders, fills, fees. Pure reads of an exchange."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

from streaming.simulator.engine.accounts import (
    PPM,
    USDC_DECIMALS,
    WEI_DECIMALS,
    Account,
    Leverage,
    Role,
)
from streaming.simulator.engine.block import Event
from streaming.simulator.engine.book import Order
from streaming.simulator.engine.coins import Coin, decimal_text
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.margin import free, position_margin
from streaming.simulator.engine.prices import mark_px
from streaming.simulator.servers.market_info import TOKENS, perps, spots

BUILDER_DEX_USDC = 1_000_000 * PPM  # what every account is taken to hold on a builder dex
MAX_ORDERS_SHOWN = 2_000
NODE_ONLY_FILL_KEYS = ("builder", "deployerFee")
ORDER_UPDATE_KEYS = ("coin", "side", "limitPx", "sz", "oid", "timestamp", "origSz")


def _usdc(micro: int) -> str:
    return decimal_text(micro, USDC_DECIMALS)


def clearinghouse_state(
    exchange: Exchange, account: Account | None, *, dex: str, now_ms: int
) -> Event:
    """`clearinghouseState` of one dex; an unknown user is empty but valid."""
    rows: list[Event] = []
    notional = margin = unrealized = signed_value = 0
    for coin in perps(exchange, dex) if account else ():
        position = account.positions.get(coin.name) if account else None
        if account is None or position is None or position.szi == 0:
            continue
        szi, size = position.szi, abs(position.szi)
        value = size * mark_px(exchange, coin)
        pnl = (value - position.entry_ntl) * (1 if szi > 0 else -1)
        used = position_margin(exchange, account, coin)
        notional, margin, unrealized = notional + value, margin + used, unrealized + pnl
        signed_value += value if position.szi > 0 else -value
        rows.append(
            {
                "type": "oneWay",
                "position": {
                    "coin": coin.name,
                    "szi": coin.sz_text(position.szi),
                    "leverage": _leverage(
                        account, coin, raw=used + pnl - (value if szi > 0 else -value)
                    ),
                    "entryPx": coin.px_text(position.entry_ntl // size),
                    "positionValue": _usdc(value),
                    "unrealizedPnl": _usdc(pnl),
                    "returnOnEquity": decimal_text(pnl * 10**10 // max(used, 1), 10),
                    "liquidationPx": None,
                    "marginUsed": _usdc(used),
                    "maxLeverage": coin.max_leverage,
                    "cumFunding": {
                        "allTime": _usdc(position.funding_ever),
                        "sinceOpen": _usdc(position.funding_since_open),
                        "sinceChange": _usdc(position.funding_since_change),
                    },
                },
            }
        )
    value = _cash(account, dex) + unrealized
    withdrawable = value - margin
    if account is not None and account.role is Role.CUSTOMER:
        # One pot for every dex, of which resting orders have their part.
        withdrawable = free(exchange, account) if dex == "" else 0
    summary = {
        "accountValue": _usdc(value),
        "totalNtlPos": _usdc(notional),
        "totalRawUsd": _usdc(value - signed_value),
        "totalMarginUsed": _usdc(margin),
    }
    return {
        "marginSummary": summary,
        "crossMarginSummary": summary,
        "crossMaintenanceMarginUsed": _usdc(margin // 2),
        "withdrawable": _usdc(max(0, withdrawable)),
        "assetPositions": rows,
        "time": now_ms,
    }


def _cash(account: Account | None, dex: str) -> int:
    if account is None:
        return 0
    if dex == "":
        return account.usdc
    return 0 if account.role is Role.CUSTOMER else BUILDER_DEX_USDC


def _leverage(account: Account, coin: Coin, *, raw: int) -> Event:
    """As a position shows it; `raw` is the USDC of an isolated one."""
    leverage = account.leverage(coin)
    if leverage.is_cross:
        return {"type": "cross", "value": leverage.value}
    return {"type": "isolated", "value": leverage.value, "rawUsd": _usdc(raw)}


def spot_state(exchange: Exchange, account: Account | None) -> Event:
    """`spotClearinghouseState`; `hold` is what resting sells, and for USDC resting buys, have
    reserved.
    """
    if account is None:
        return {"balances": []}
    hold = {token: 0 for token in account.balances}
    for coin in spots(exchange):
        for order in exchange.books[coin.name].orders.values():
            if order.user != account.address:
                continue
            if order.is_buy:
                hold["USDC"] += order.px * order.sz
            else:
                hold[coin.base] += order.sz * 10 ** (WEI_DECIMALS - coin.sz_decimals)
    return {
        "balances": [
            {
                "coin": token,
                "token": TOKENS[token][0] if token in TOKENS else 0,
                "total": decimal_text(balance.total, WEI_DECIMALS),
                "hold": decimal_text(hold[token], WEI_DECIMALS),
                "entryNtl": decimal_text(balance.entry_ntl, WEI_DECIMALS),
            }
            for token, balance in account.balances.items()
        ]
    }


def orders_of(exchange: Exchange, address: str, dex: str) -> Iterator[Order]:
    """A user's live orders and waiting stops on one dex, newest first."""
    found = [
        order
        for book in exchange.books.values()
        if book.coin.dex == dex
        for orders in (book.orders, book.triggers)
        for order in orders.values()
        if order.user == address
    ]
    return iter(sorted(found, key=lambda order: -order.oid))


def open_orders(exchange: Exchange, address: str, dex: str) -> list[Event]:
    """`openOrders`: the short form; `cloid` only where the client set one."""
    rows = []
    for order in orders_of(exchange, address, dex):
        full = order.as_dict()
        row = {
            key: full[key]
            for key in ("coin", "limitPx", "oid", "side", "sz", "timestamp", "origSz")
        }
        if order.cloid is not None:
            row["cloid"] = order.cloid
        rows.append(row)
    return rows


def frontend_orders(exchange: Exchange, address: str, dex: str) -> list[Event]:
    """`frontendOpenOrders`: the long form."""
    return [order.as_dict() for order in orders_of(exchange, address, dex)]


def historical_orders(exchange: Exchange, address: str) -> list[Event]:
    """`historicalOrders`: the last status of each of a user's orders, newest first, 2,000 at
    most.
    """
    rows = [
        {
            "order": event["order"],
            "status": event["status"],
            "statusTimestamp": _status_ms(event),
        }
        for event in reversed(statuses_of(exchange, address).values())
        if event["user"] == address
    ]
    return rows[:MAX_ORDERS_SHOWN]


def statuses_of(exchange: Exchange, address: str) -> OrderedDict[int, Event]:
    """Where a user's last statuses are found: a customer's in a list of their own, for longer."""
    account = exchange.accounts.get(address)
    is_customer = account is not None and account.role is Role.CUSTOMER
    return account.statuses if account and is_customer else exchange.last_status


def active_asset_data(
    exchange: Exchange, account: Account | None, address: str, coin: Coin
) -> Event:
    """`activeAssetData` of a perp: sizes and USDC that buying and selling could still use."""
    mark = mark_px(exchange, coin)
    usable, szi = 0, 0
    if account is not None:
        dex = "" if account.role is Role.CUSTOMER else coin.dex
        held = clearinghouse_state(exchange, account, dex=dex, now_ms=0)
        usable = _micro(str(held["withdrawable"]))
        szi = account.positions[coin.name].szi if coin.name in account.positions else 0
    leverage = account.leverage(coin) if account else Leverage(coin.max_leverage)
    most = usable * leverage.value // max(mark, 1)
    # Against a position one may trade back through it.
    buy, sell = most + max(0, -szi), most + max(0, szi)
    return {
        "user": address,
        "coin": coin.name,
        "leverage": {"type": "cross" if leverage.is_cross else "isolated", "value": leverage.value},
        "maxTradeSzs": [coin.sz_text(buy), coin.sz_text(sell)],
        "availableToTrade": [_usdc(usable), _usdc(usable)],
        "markPx": coin.px_text(mark),
    }


def _micro(usdc: str) -> int:
    whole, _, part = usdc.partition(".")
    return int(f"{whole}{part:0<{USDC_DECIMALS}}")


def order_update(status: Event, time_ms: int) -> Event:
    """A status row as the orderUpdates feed shows it."""
    order = cast("Event", status["order"])
    short = {key: order[key] for key in ORDER_UPDATE_KEYS}
    if order["cloid"] is not None:
        short["cloid"] = order["cloid"]
    return {"order": short, "status": status["status"], "statusTimestamp": time_ms}


def notification(status: Event) -> str:
    """What a user is told when one of their stops is reached."""
    order = cast("Event", status["order"])
    side = "Buy" if order["side"] == "B" else "Sell"
    return f"{side} stop order for {order['sz']} {order['coin']} triggered"


def order_status(exchange: Exchange, address: str, oid: object) -> Event:
    """`orderStatus` by order id or client order id."""
    statuses = statuses_of(exchange, address)
    event = statuses.get(oid) if isinstance(oid, int) else None
    if isinstance(oid, str):
        for each in reversed(statuses.values()):
            order = each["order"]
            if (
                isinstance(order, dict)
                and order["cloid"] == oid.lower()
                and each["user"] == address
            ):
                event = each
                break
    if event is None or event["user"] != address:
        return {"status": "unknownOid"}
    return {
        "status": "order",
        "order": {
            "order": event["order"],
            "status": event["status"],
            "statusTimestamp": _status_ms(event),
        },
    }


def _status_ms(event: Event) -> int:
    at = datetime.fromisoformat(str(event["time"])[:23]).replace(tzinfo=UTC)
    return round(at.timestamp() * 1_000)


def api_fill(row: Event) -> Event:
    """A fill as the public API shows it: without the keys that only node files carry."""
    if any(key in row for key in NODE_ONLY_FILL_KEYS):
        return {key: value for key, value in row.items() if key not in NODE_ONLY_FILL_KEYS}
    return row


def user_fills(
    account: Account | None, *, start_ms: int | None = None, end_ms: int | None = None
) -> list[Event]:
    """Newest first as `userFills`; with a start time oldest first as `userFillsByTime`. At most
    2,000.
    """
    rows = [] if account is None else list(account.fills)
    if start_ms is None:
        return [api_fill(row) for row in reversed(rows)]
    until = end_ms if end_ms is not None else 1 << 62
    return [api_fill(row) for row in rows if start_ms <= int(str(row["time"])) <= until]


def user_fees(account: Account | None) -> Event:
    """`userFees` with the base schedule and the user's own rates."""
    taker, maker = (account.taker_ppm, account.maker_ppm) if account else (450, 150)
    return {
        "dailyUserVlm": [],
        "feeSchedule": {
            "cross": "0.00045",
            "add": "0.00015",
            "spotCross": "0.0007",
            "spotAdd": "0.0004",
            "tiers": {
                "vip": [
                    {
                        "ntlCutoff": "5000000.0",
                        "cross": "0.0004",
                        "add": "0.00012",
                        "spotCross": "0.0006",
                        "spotAdd": "0.0003",
                    }
                ],
                "mm": [{"makerFractionCutoff": "0.005", "add": "-0.00001"}],
            },
            "referralDiscount": "0.04",
            "stakingDiscountTiers": [{"bpsOfMaxSupply": "0.0", "discount": "0.0"}],
        },
        "userCrossRate": decimal_text(taker, USDC_DECIMALS),
        "userAddRate": decimal_text(maker, USDC_DECIMALS),
        "userSpotCrossRate": decimal_text(taker, USDC_DECIMALS),
        "userSpotAddRate": decimal_text(abs(maker), USDC_DECIMALS),
        "activeReferralDiscount": "0.0",
        "trial": None,
        "feeTrialEscrow": "0.0",
        "nextTrialAvailableTimestamp": None,
        "stakingLink": None,
        "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
    }


def user_rate_limit(account: Account | None) -> Event:
    """`userRateLimit`: 10,000 requests to begin with, and one more a USDC traded."""
    volume, used = (account.volume, account.requests) if account else (0, 0)
    return {
        "cumVlm": _usdc(volume),
        "nRequestsUsed": used,
        "nRequestsCap": 10_000 + volume // PPM + (account.bought_requests if account else 0),
        "nRequestsSurplus": 0,
    }
