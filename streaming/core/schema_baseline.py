"""What the exchange is known to send by its WebSocket, and its node by files and `/info`: fields
by channel, and cadences.

Source: recorded frames of 2026 and the official documentation. A path ending in `*` allows anything
below it: maps by coin, and aggregates that the exchange extends without notice.
"""

from __future__ import annotations

_LEVEL = "px sz n"
_FILL = (
    "coin px sz side time startPosition dir closedPnl hash oid crossed fee builderFee tid cloid "
    "liquidation* liquidation feeToken builder twapId"
)
_ORDER = (
    "coin side limitPx sz oid timestamp origSz cloid triggerCondition isTrigger triggerPx children "
    "children* isPositionTpsl reduceOnly orderType tif"
)
_CTX = "funding openInterest prevDayPx dayNtlVlm premium oraclePx markPx midPx impactPxs dayBaseVlm"
_SPOT_CTX = "prevDayPx dayNtlVlm markPx midPx circulatingSupply coin totalSupply dayBaseVlm"
_TWAP = "coin user side sz executedSz executedNtl minutes reduceOnly randomize timestamp"
_FUNDING = "time coin usdc szi fundingRate nSamples"
_STATE = (
    "marginSummary marginSummary* crossMarginSummary crossMarginSummary* "
    "crossMaintenanceMarginUsed withdrawable assetPositions assetPositions* time"
)


def _at(prefix: str, fields: str) -> str:
    """`fields` below `prefix`, and `prefix` itself."""
    below = " ".join(f"{prefix}.{field}" for field in fields.split())
    return f"{prefix.removesuffix('[]')} {below}"


def _items(name: str, fields: str) -> str:
    return f"isSnapshot user {_at(f'{name}[]', fields)}"


_TWAP_EVENT = f"time status status* twapId {_at('state', _TWAP)}"
_SLICE = f"twapId {_at('fill', _FILL)}"

_TEXT = {
    "l2Book": f"coin time spread fast levels {' '.join(f'levels[][].{f}' for f in _LEVEL.split())}",
    "bbo": f"coin time {_at('bbo[]', _LEVEL)}",
    "trades": " ".join(f"[].{f}" for f in "coin side px sz time hash tid users".split()),
    "allMids": "dex mids mids*",
    "candle": "t T s i o c h l v n",
    "activeAssetCtx": f"coin {_at('ctx', _CTX)}",
    "activeSpotAssetCtx": f"coin {_at('ctx', _SPOT_CTX)}",
    "assetCtxs": f"dex {_at('ctxs[]', _CTX)}",
    "spotAssetCtxs": " ".join(f"[].{f}" for f in _SPOT_CTX.split()),
    "allDexsAssetCtxs": f"ctxs {' '.join(f'ctxs[][][].{f}' for f in _CTX.split())}",
    "fastAssetCtxs": "",
    "outcomeMetaUpdates": "updates updates*",
    "notification": "notification",
    "orderUpdates": " ".join(
        f"[].{f}" for f in f"{_at('order', _ORDER)} status statusTimestamp".split()
    ),
    "user": (
        f"{_at('fills[]', _FILL)} {_at('funding', _FUNDING)} liquidation liquidation* "
        f"{_at('nonUserCancel[]', 'coin oid')} "
        f"{_at('twapHistory[]', _TWAP_EVENT)} {_at('twapSliceFills[]', _SLICE)}"
    ),
    "userFills": _items("fills", _FILL),
    "userFundings": _items("fundings", _FUNDING),
    "userNonFundingLedgerUpdates": _items("nonFundingLedgerUpdates", "time hash delta delta*"),
    "userHistoricalOrders": _items(
        "orderHistory", f"{_at('order', _ORDER)} status statusTimestamp"
    ),
    "userTwapSliceFills": _items("twapSliceFills", _SLICE),
    "userTwapHistory": _items("history", _TWAP_EVENT),
    "openOrders": f"dex user {_at('orders[]', _ORDER)}",
    "clearinghouseState": f"dex user {_at('clearinghouseState', _STATE)}",
    "allDexsClearinghouseState": "user clearinghouseStates clearinghouseStates*",
    "spotState": f"user {_at('spotState', 'balances balances* portfolioMargin* *')}",
    "activeAssetData": "user coin leverage leverage* maxTradeSzs availableToTrade markPx",
    "twapStates": f"dex user states {' '.join(f'states[][].{f}' for f in _TWAP.split())}",
    "webData2": "*",
    "webData3": "*",
}

#: Lines of node files, by their kind. A new kind of event below `inner` or `action` is news, its
#: fields are its own. Blocks as transactions are not looked at: a line is 194 KB.
#: Source: recorded files of mainnet (2026), and the simulator's for what was not recorded.
_LINE = "local_time block_time block_number events"
_INNER = (
    "LedgerUpdate Delegation CDeposit CWithdrawal Funding ValidatorRewards "
    "GossipPriorityAuctionRestart"
)
_ORACLE = "external_perp_px_inputs mark_px_inputs oracle_pxs spot_px_inputs update_class"


def _below(prefix: str, fields: str) -> str:
    return " ".join(f"{prefix}{field}" for field in fields.split())


def _freely(prefix: str, fields: str) -> str:
    """`fields` below `prefix`, and anything below and in them."""
    return " ".join(f"{prefix}{field}{mark}" for field in fields.split() for mark in ("", "*", "|"))


_LINES = {
    "node_fills": _below("events[][].", f"{_FILL} deployerFee priorityGas"),
    "node_order_statuses": (
        f"{_below('events[].', 'time user hash builder builder* status order')} "
        f"{_below('events[].order.', _ORDER)}"
    ),
    "node_raw_book_diffs": (
        f"{_below('events[].', 'user oid coin side px raw_book_diff raw_book_diff|')} "
        f"{_below('events[].raw_book_diff.', 'new new.sz update update.origSz update.newSz')}"
    ),
    "misc_events": f"{_below('events[].', 'time hash inner')} {_freely('events[].inner.', _INNER)}",
    "node_twap_statuses": (
        f"{_below('events[].', 'time twap_id state')} {_freely('events[].', 'status')} "
        f"{_below('events[].state.', _TWAP)}"
    ),
    "system_and_core_writer_actions": (
        f"{_below('events[].', 'user nonce evm_tx_hash')} {_freely('events[].', 'action')}"
    ),
    "hip3_oracle_updates": _freely("events[].", _ORACLE),
}

#: What a node's `/info` answers, by the type of the question.
_INFO = {
    "clearinghouseState": _STATE,
    "frontendOpenOrders": _below("[].", _ORDER),
    "metaAndAssetCtxs": (
        f"{_freely('[].', 'universe marginTables collateralToken')} {_below('[][].', _CTX)}"
    ),
    "spotMetaAndAssetCtxs": f"{_freely('[].', 'universe tokens')} {_below('[][].', _SPOT_CTX)}",
    "spotClearinghouseState": (
        f"{_freely('', 'balances portfolioMarginRatio portfolioMarginEnabled evmEscrows')} "
        f"{_freely('', 'tokenToAvailableAfterMaintenance')}"
    ),
    "activeAssetData": _TEXT["activeAssetData"],
    "webData2": "*",
}

FIELDS: dict[str, frozenset[str]] = {
    **{channel: frozenset(fields.split()) for channel, fields in _TEXT.items()},
    **{kind: frozenset(f"{_LINE} {fields}".split()) for kind, fields in _LINES.items()},
    **{f"info {type_}": frozenset(fields.split()) for type_, fields in _INFO.items()},
}

#: Seconds between two frames of one topic, where the exchange pushes by a clock.
CADENCES_S: dict[str, tuple[float, ...]] = {
    "l2Book": (5.4, 0.54),
    "allMids": (5.0,),
    "activeAssetCtx": (1.0,),
    "activeSpotAssetCtx": (1.0,),
    "allDexsAssetCtxs": (13.6,),
    "fastAssetCtxs": (1.0,),
}
