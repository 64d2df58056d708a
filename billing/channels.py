"""The channels that usage is counted on, by the names that price documents and reports use.

Billing cannot ask the data plane, which is above it; a test holds this list to its kinds.
"""

from __future__ import annotations

from typing import Final

#: The types of subscriptions; docs/usage.md says what a message of each is.
SUBSCRIPTIONS: Final = (
    "l2Book",
    "bbo",
    "trades",
    "allMids",
    "l4Book",
    "candle",
    "activeAssetCtx",
    "assetCtxs",
    "spotAssetCtxs",
    "allDexsAssetCtxs",
    "fastAssetCtxs",
    "outcomeMetaUpdates",
    "orderUpdates",
    "userFills",
    "userEvents",
    "userTwapSliceFills",
    "userTwapHistory",
    "userFundings",
    "userNonFundingLedgerUpdates",
    "userHistoricalOrders",
    "notification",
    "openOrders",
    "clearinghouseState",
    "allDexsClearinghouseState",
    "spotState",
    "activeAssetData",
    "twapStates",
    "webData2",
    "webData3",
    "l2Diff",
    "l4Diff",
    "raw",
)
#: What is asked over HTTP.
REQUESTS: Final = ("info", "exchange", "evm", "history", "account")
#: Where coin-minutes are counted.
COINS: Final = "coins"
CHANNELS: Final = (*SUBSCRIPTIONS, *REQUESTS, COINS)
