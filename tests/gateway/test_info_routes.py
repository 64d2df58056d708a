"""One table says where each type of `/info` request is answered."""

from __future__ import annotations

from gateway.http.routes import EXPLORER, NODE_LOCAL, ROUTES, Source, route_of
from gateway.http.weights import DEFAULT_WEIGHT, WEIGHTS

#: Source: the README of hyperliquid-dex/node, `--serve-info`, but for what it answers in part
#: (webData2) and what writes files.
AT_NODES = """meta spotMeta clearinghouseState spotClearinghouseState openOrders exchangeStatus
frontendOpenOrders liquidatable activeAssetData maxMarketOrderNtls vaultSummaries userVaultEquities
leadingVaults extraAgents subAccounts userFees userRateLimit spotDeployState
perpDeployAuctionStatus delegations delegatorSummary maxBuilderFee userToMultiSigSigners userRole
perpsAtOpenInterestCap validatorL1Votes marginTable perpDexs"""
#: Source: the exchange's documentation of `/info` and the types that its clients know.
ELSEWHERE = """allPerpMetas metaAndAssetCtxs spotMetaAndAssetCtxs allMids l2Book recentTrades
candleSnapshot fundingHistory predictedFundings perpDexLimits perpDexStatus perpCategories
perpAnnotation perpConciseAnnotations tokenDetails spotPairDeployAuctionStatus outcomeMeta
settledOutcome validatorSummaries gossipRootIps alignedQuoteTokenInfo legalCheck orderStatus
historicalOrders userFills userFillsByTime userFunding userNonFundingLedgerUpdates subAccounts2
referral approvedBuilders portfolio delegatorHistory delegatorRewards userAbstraction
userDexAbstraction isVip preTransferCheck webData2 twapHistory userTwapSliceFills
userTwapSliceFillsByTime borrowLendUserState userBorrowLendInterest vaultDetails"""
OF_USERS = """clearinghouseState spotClearinghouseState openOrders frontendOpenOrders orderStatus
historicalOrders userFills userFillsByTime userFunding userNonFundingLedgerUpdates userFees
userRateLimit userRole extraAgents subAccounts subAccounts2 referral maxBuilderFee approvedBuilders
portfolio userVaultEquities leadingVaults delegations delegatorSummary delegatorHistory
delegatorRewards userToMultiSigSigners userAbstraction userDexAbstraction isVip preTransferCheck
activeAssetData webData2 twapHistory userTwapSliceFills userTwapSliceFillsByTime
borrowLendUserState userBorrowLendInterest vaultDetails"""


def test_every_type_has_a_route() -> None:
    for kind in [*AT_NODES.split(), *ELSEWHERE.split()]:
        assert kind in ROUTES, kind
    assert {"txDetails", "blockDetails", "userDetails"} <= EXPLORER
    assert "fileSnapshot" in NODE_LOCAL


def test_what_a_node_serves_costs_none_of_the_public_budget_first() -> None:
    for kind in AT_NODES.split():
        assert route_of(kind).sources[0] is Source.NODE, kind
    for kind in ELSEWHERE.split():
        assert route_of(kind).sources[0] is not Source.NODE, kind


def test_what_names_a_user_is_never_kept() -> None:
    for kind in OF_USERS.split():
        assert route_of(kind).names_user, kind
    assert not [kind for kind, route in ROUTES.items() if route.names_user and route.ttl_s]
    assert route_of("somethingNew").ttl_s == 0  # it may name one


def test_candles_trades_and_fundings_go_through_the_port_of_history() -> None:
    for kind in ("candleSnapshot", "recentTrades", "fundingHistory"):
        sources = route_of(kind).sources
        assert sources.index(Source.HISTORY) < sources.index(Source.PUBLIC)


def test_weights_are_the_exchange_s() -> None:
    assert {kind: WEIGHTS[kind] for kind in ("l2Book", "allMids", "orderStatus")} == {
        "l2Book": 2, "allMids": 2, "orderStatus": 2,
    }  # fmt: skip
    assert (WEIGHTS["userRole"], DEFAULT_WEIGHT) == (60, 20)
