"""The python SDK's own examples, one after the other, with its documented one-line fix: prints
what every call answered as one JSON object.

python trade.py http://host:port KEY [unpatched] [--feed http://host:port/<key>]

With --feed the events of the user are followed there.

Source: examples of hyperliquid-python-sdk 0.24.0: basic_order, basic_order_modify, basic_order_with
_cloid, basic_market_order, basic_tpsl, basic_adding (batch), basic_schedule_cancel,
basic_leverage_adjustment, basic_agent, basic_transfer, basic_spot_transfer, cancel_open_orders,
class_transfer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import hyperliquid.exchange
from eth_account import Account
from hyperliquid.info import Info
from hyperliquid.utils.types import Cloid

COIN = "ETH"
#: Nobody has sent it anything before.
FRIEND = Account.create().address.lower()
EVENTS_DEADLINE_S = 30


def main(base_url: str, key: str, *, is_patched: bool, feed_url: str) -> None:
    """Trade, and print every answer by the name of its step."""
    if is_patched:
        hyperliquid.exchange.MAINNET_API_URL = base_url
    wallet = Account.from_key(key)
    info, feed = Info(base_url, skip_ws=True), Info(feed_url)
    exchange = hyperliquid.exchange.Exchange(wallet, base_url, account_address=wallet.address)
    said: dict[str, Any] = {"state": info.user_state(wallet.address)}
    if not is_patched:
        said["order"] = exchange.order(COIN, True, 0.2, 1_100, {"limit": {"tif": "Gtc"}})
        said["usd_transfer"] = exchange.usd_transfer(1, FRIEND)
        feed.disconnect_websocket()
        json.dump(said, sys.stdout)
        return
    events: dict[str, list[Any]] = {"orderUpdates": [], "userEvents": [], "userFills": []}
    for kind, rows in events.items():
        feed.subscribe({"type": kind, "user": wallet.address}, _keeper(rows))
    mid = float(info.all_mids()[COIN])
    low, lower = round(mid * 0.95, 1), round(mid * 0.94, 1)

    # basic_order: place far away, ask by id, cancel.
    said["order"] = exchange.order(COIN, True, 0.2, low, {"limit": {"tif": "Gtc"}})
    oid = said["order"]["response"]["data"]["statuses"][0]["resting"]["oid"]
    said["status_by_oid"] = info.query_order_by_oid(wallet.address, oid)
    said["open_orders"] = info.open_orders(wallet.address)
    said["modify"] = exchange.modify_order(
        oid, COIN, True, 0.1, lower, {"limit": {"tif": "Gtc"}}, cloid=None
    )
    new_oid = said["modify"]["response"]["data"]["statuses"][0]["resting"]["oid"]
    said["cancel"] = exchange.cancel(COIN, new_oid)
    said["cancel_again"] = exchange.cancel(COIN, new_oid)

    # basic_order_with_cloid
    cloid = Cloid.from_int(77)
    said["cloid"] = exchange.order(COIN, True, 0.2, low, {"limit": {"tif": "Alo"}}, cloid=cloid)
    said["status_by_cloid"] = info.query_order_by_cloid(wallet.address, cloid)
    said["modify_by_cloid"] = exchange.modify_order(
        cloid, COIN, True, 0.1, lower, {"limit": {"tif": "Gtc"}}, cloid=cloid
    )
    said["cancel_by_cloid"] = exchange.cancel_by_cloid(COIN, cloid)

    # a batch of three, one of them too small
    row = {"coin": COIN, "is_buy": True, "reduce_only": False}
    row["order_type"] = {"limit": {"tif": "Gtc"}}
    rows = [row | {"sz": sz, "limit_px": px} for sz, px in ((0.1, low), (0.001, low), (0.1, lower))]
    said["batch"] = exchange.bulk_orders(rows)
    said["schedule_cancel"] = exchange.schedule_cancel(int(time.time() * 1_000) + 6_000)
    said["schedule_clear"] = exchange.schedule_cancel(None)

    # basic_leverage_adjustment, basic_market_order, basic_tpsl
    said["leverage"] = exchange.update_leverage(7, COIN)
    said["isolated"] = exchange.update_leverage(5, "BTC", is_cross=False)
    said["market_open"] = exchange.market_open(COIN, True, 0.05, None, 0.01)
    stop = {"trigger": {"triggerPx": round(mid * 0.9, 1), "isMarket": True, "tpsl": "sl"}}
    said["stop"] = exchange.order(COIN, False, 0.05, round(mid * 0.85, 1), stop, reduce_only=True)
    said["frontend"] = info.frontend_open_orders(wallet.address)
    said["state_open"] = info.user_state(wallet.address)
    said["market_close"] = exchange.market_close(COIN)

    # cancel_open_orders
    said["cancel_all"] = [
        exchange.cancel(order["coin"], order["oid"]) for order in info.open_orders(wallet.address)
    ]

    # basic_agent, basic_transfer, class_transfer, spot
    said["approve_agent"], agent_key = exchange.approve_agent("bot")
    agent = hyperliquid.exchange.Exchange(
        Account.from_key(agent_key), base_url, account_address=wallet.address
    )
    said["agent_order"] = agent.order(COIN, True, 0.2, low, {"limit": {"tif": "Gtc"}})
    said["extra_agents"] = info.extra_agents(wallet.address)
    said["usd_transfer"] = exchange.usd_transfer(12.5, FRIEND)
    said["friend"] = info.user_state(FRIEND)
    said["class_transfer"] = exchange.usd_class_transfer(500, to_perp=False)
    said["spot_order"] = exchange.order("PURR/USDC", True, 200, 0.12, {"limit": {"tif": "Ioc"}})
    said["spot_transfer"] = exchange.spot_transfer(
        25, FRIEND, "PURR:0xc1fb593aeffbeb02f85e0308e9956a90"
    )
    said["noop"] = exchange.noop(int(time.time() * 1_000))
    exchange.set_expires_after(int(time.time() * 1_000) - 60_000)
    said["expired"] = exchange.cancel(COIN, oid)
    exchange.set_expires_after(None)
    said["rate_limit"] = info.user_rate_limit(wallet.address)
    said["fills"] = info.user_fills(wallet.address)
    deadline_s = time.monotonic() + EVENTS_DEADLINE_S
    while len(_tids(events)) < len(said["fills"]) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    feed.disconnect_websocket()
    json.dump(said | {"events": events}, sys.stdout)


def _keeper(rows: list[Any]) -> Callable[[Any], None]:
    return lambda message: rows.append(message["data"])


def _tids(events: dict[str, list[Any]]) -> set[int]:
    return {fill["tid"] for frame in events["userFills"] for fill in frame["fills"]}


if __name__ == "__main__":
    rest = sys.argv[3:]
    feed_url = rest[rest.index("--feed") + 1] if "--feed" in rest else sys.argv[1]
    main(sys.argv[1], sys.argv[2], is_patched="unpatched" not in rest, feed_url=feed_url)
