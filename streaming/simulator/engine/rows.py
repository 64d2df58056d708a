"""Ids and rows that follow from a trade alone. Pure."""

from __future__ import annotations

import hashlib

from streaming.simulator.engine.accounts import USDC_DECIMALS, Settled
from streaming.simulator.engine.book import Order
from streaming.simulator.engine.coins import Coin, decimal_text

BUILDER_FEE_PPM = 250
DEPLOYER_FEE_PPM = 100


def asset_ids(coins: tuple[Coin, ...]) -> dict[str, int]:
    """The number by which an action names each coin, for at most one builder dex.

    Source: official docs, asset ids.
    """
    ids: dict[str, int] = {}
    counts = {"": 0}
    for coin in coins:
        if coin.is_spot:
            ids[coin.name] = 10_000 + coin.spot_index
            continue
        index = counts.get(coin.dex, 110_000)
        ids[coin.name], counts[coin.dex] = index, index + 1
    return ids


def trade_id(buy_oid: int, sell_oid: int) -> int:
    """50 bits from the two order ids, as the exchange derives it from them."""
    digest = hashlib.blake2b(f"{buy_oid}:{sell_oid}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 14


def fill_row(
    order: Order,
    settled: Settled,
    *,
    px: int,
    sz: int,
    time_ms: int,
    tx_hash: str,
    tid: int,
    crossed: bool,
) -> dict[str, object]:
    """One side of a trade in the node's key order; optional keys appear only where they apply."""
    coin = order.coin
    notional = px * sz
    row: dict[str, object] = {
        "coin": coin.name,
        "px": coin.px_text(px),
        "sz": coin.sz_text(sz),
        "side": order.side,
        "time": time_ms,
        "startPosition": settled.start_position,
        "dir": settled.direction,
        "closedPnl": settled.closed_pnl,
        "hash": tx_hash,
        "oid": order.oid,
        "crossed": crossed,
        "fee": settled.fee,
    }
    if order.builder is not None and not coin.is_spot:
        row["builderFee"] = _usdc(notional * BUILDER_FEE_PPM // 1_000_000)
    row["tid"] = tid
    if order.cloid is not None:
        row["cloid"] = order.cloid
    row["feeToken"] = settled.fee_in
    if order.builder is not None and not coin.is_spot:
        row["builder"] = order.builder
    row["twapId"] = order.twap_id
    if coin.dex:
        row["deployerFee"] = _usdc(notional * DEPLOYER_FEE_PPM // 1_000_000 if crossed else 0)
    return row


def _usdc(micro: int) -> str:
    return decimal_text(micro, USDC_DECIMALS)
