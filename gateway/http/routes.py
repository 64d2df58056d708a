"""Where every `/info` request is answered, and for how long an answer may be given again: one
table.

Source: the exchange's documentation of `/info`, and the node's README for what `--serve-info`
answers. What a request weighs stands in `weights`. Pure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Source(StrEnum):
    """Who answers."""

    HUB = "hub"  # our own books, mids and trades, from memory
    HISTORY = "history"  # our own record of candles, trades and fundings
    NODE = "node"  # a node's /info: no limit of rate
    PUBLIC = "public"  # the exchange's own API: 1,200 of weight a minute for all of us


class Route(NamedTuple):
    """Sources in the order they are asked; `ttl_s` is how long an answer is given again, 0 never;
    `stale_s` how old it may be when no upstream answers. What names a user is never kept, only
    shared by those who ask at the same time."""

    sources: tuple[Source, ...]
    ttl_s: float = 0.0
    stale_s: float = 0.0
    names_user: bool = False


_OWN = (Source.HUB, Source.PUBLIC, Source.NODE)
_RECORDED = (Source.HISTORY, Source.PUBLIC, Source.NODE)
#: A node that serves more than the README says is asked before nobody is.
_PUBLIC = (Source.PUBLIC, Source.NODE)
_NODE = (Source.NODE, Source.PUBLIC)

#: What changes with a listing or a governance vote may be old rather than missing.
_LISTING_S, _LISTING_STALE_S = 60.0, 3_600.0
_SLOW_S, _SLOW_STALE_S = 10.0, 600.0


def _each(names: str, route: Route) -> dict[str, Route]:
    return dict.fromkeys(names.split(), route)


#: Answered at the exchange's explorer, at another address.
EXPLORER = frozenset({"txDetails", "blockDetails", "userDetails", "blockList"})
#: What a node does with these is not a read: it writes files where the request says.
NODE_LOCAL = frozenset({"fileSnapshot", "referrerStates"})

ROUTES: dict[str, Route] = {
    # Our own. `l2Book` and the like from elsewhere are kept as briefly as they stay true.
    "l2Book": Route(_OWN, ttl_s=0.25),
    "allMids": Route(_OWN, ttl_s=0.5),
    "recentTrades": Route((Source.HUB, *_RECORDED), ttl_s=0.5),
    "candleSnapshot": Route(_RECORDED, ttl_s=1.0, stale_s=10.0),
    "fundingHistory": Route(_RECORDED, ttl_s=60.0, stale_s=600.0),
    # Of all.
    **_each("meta spotMeta perpDexs", Route(_NODE, _LISTING_S, _LISTING_STALE_S)),
    **_each(
        "allPerpMetas perpDexLimits perpDexStatus perpCategories perpAnnotation"
        " perpConciseAnnotations",
        Route(_PUBLIC, _LISTING_S, _LISTING_STALE_S),
    ),
    **_each("metaAndAssetCtxs spotMetaAndAssetCtxs", Route(_PUBLIC, ttl_s=1.0, stale_s=10.0)),
    "predictedFundings": Route(_PUBLIC, ttl_s=5.0, stale_s=60.0),
    "perpsAtOpenInterestCap": Route(_NODE, ttl_s=5.0, stale_s=60.0),
    "exchangeStatus": Route(_NODE, ttl_s=0.25),
    **_each(
        "marginTable maxMarketOrderNtls spotDeployState perpDeployAuctionStatus vaultSummaries"
        " liquidatable validatorL1Votes",
        Route(_NODE, _SLOW_S, _SLOW_STALE_S),
    ),
    **_each(
        "tokenDetails spotPairDeployAuctionStatus outcomeMeta settledOutcome validatorSummaries"
        " validatorStats gossipRootIps alignedQuoteTokenInfo",
        Route(_PUBLIC, _SLOW_S, _SLOW_STALE_S),
    ),
    # Of one user: what a node serves, and what it does not.
    **_each(
        "clearinghouseState spotClearinghouseState openOrders frontendOpenOrders activeAssetData"
        " userVaultEquities leadingVaults extraAgents subAccounts userFees userRateLimit"
        " delegations delegatorSummary maxBuilderFee userToMultiSigSigners userRole",
        Route(_NODE, names_user=True),
    ),
    **_each(
        "orderStatus historicalOrders userFills userFillsByTime userFunding nonUserFundingUpdates"
        " userNonFundingLedgerUpdates subAccounts2 referral approvedBuilders portfolio"
        " delegatorHistory delegatorRewards userAbstraction userDexAbstraction isVip"
        # A node's has no contexts of assets.
        " preTransferCheck webData2 twapHistory userTwapSliceFills userTwapSliceFillsByTime"
        " borrowLendUserState userBorrowLendInterest legalCheck vaultDetails",
        Route(_PUBLIC, names_user=True),
    ),
}
#: A type that is new: the exchange knows it before a node does, and it may name a user.
UNKNOWN = Route(_PUBLIC, names_user=True)


def route_of(kind: str) -> Route:
    """The route of a type of request."""
    return ROUTES.get(kind, UNKNOWN)
