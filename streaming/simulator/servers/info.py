"""POST /info: a request body in, the exchange's answer out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import orjson

from streaming.simulator.engine.accounts import USDC_DECIMALS, Account
from streaming.simulator.engine.block import Event
from streaming.simulator.engine.coins import decimal_text
from streaming.simulator.engine.exchange import ZERO_HASH
from streaming.simulator.engine.tape import INTERVALS_MS
from streaming.simulator.files.snapshot import render_l4
from streaming.simulator.servers import market_info, user_feeds, user_info
from streaming.simulator.servers.dialect import ADDRESS, is_valid_grouping
from streaming.simulator.simulation import Simulator

UNPROCESSABLE = b"Failed to deserialize the JSON body into the target type"
RECENT_TRADES = 30
MAX_FAUCET_USDC = 1_000_000_000
MAX_ROWS = 500  # of a range of time
#: Source: the list of what `--serve-info` serves; the public API has more.
NOT_AT_NODES = (
    "allMids",
    "l2Book",
    "metaAndAssetCtxs",
    "spotMetaAndAssetCtxs",
    "candleSnapshot",
    "recentTrades",
    "fundingHistory",
    "userFills",
    "userFillsByTime",
    "userFunding",
    "userNonFundingLedgerUpdates",
    "historicalOrders",
    "orderStatus",
    "userTwapSliceFills",
    "twapHistory",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` is JSON unless `is_text`."""

    body: bytes
    status: int = 200
    is_text: bool = False


class Refused(Exception):
    """The request is not one the exchange would take; carries what it would answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot to be written to `path` before the request is answered."""

    path: str
    content: bytes


class InfoDesk(Protocol):
    """Answers /info, from a running exchange or from recorded data."""

    def answer(self, body: object) -> Answer:
        """The answer to one request body. Never raises."""

    def snapshot_file(self, body: dict[str, object]) -> SnapshotFile:
        """What a fileSnapshot request wants written, taken now. Raises Refused."""


def unprocessable() -> Refused:
    """The refusal of anything that is not a known request."""
    return Refused(Answer(UNPROCESSABLE, status=422, is_text=True))


class ExchangeInfo:
    """Answers /info from a running simulation."""

    def __init__(self, simulator: Simulator, *, like_node: bool = False) -> None:
        """With `like_node` it refuses what a node's own /info does not answer: market data,
        contexts and histories.
        """
        self._exchange = simulator.exchange
        self._customers = simulator.trading.customers
        self._like_node = like_node
        self._handlers: dict[str, Callable[[Event], object]] = {
            "meta": lambda r: market_info.meta(self._exchange, self._dex(r)),
            "allPerpMetas": lambda r: [
                market_info.meta(self._exchange, dex) for dex in ("", "xyz")
            ],
            "spotMeta": lambda r: market_info.spot_meta(self._exchange),
            "allMids": lambda r: market_info.all_mids(self._exchange, self._dex(r)),
            "l2Book": self._l2_book,
            "metaAndAssetCtxs": self._meta_and_ctxs,
            "spotMetaAndAssetCtxs": self._spot_meta_and_ctxs,
            "perpDexs": lambda r: [None, market_info.BUILDER_DEX],
            "exchangeStatus": lambda r: {"specialStatuses": None, "time": self._now_ms},
            "outcomeMeta": lambda r: {"outcomes": [], "questions": []},
            "candleSnapshot": self._candles,
            "recentTrades": self._recent_trades,
            "fundingHistory": lambda r: [],
            "perpsAtOpenInterestCap": lambda r: [],
            "clearinghouseState": lambda r: user_info.clearinghouse_state(
                self._exchange, self._funded(r), dex=self._dex(r), now_ms=self._now_ms
            ),
            "spotClearinghouseState": lambda r: user_info.spot_state(
                self._exchange, self._funded(r)
            ),
            "openOrders": lambda r: user_info.open_orders(self._exchange, address(r), self._dex(r)),
            "frontendOpenOrders": lambda r: user_info.frontend_orders(
                self._exchange, address(r), self._dex(r)
            ),
            "orderStatus": lambda r: user_info.order_status(
                self._exchange, address(r), r.get("oid")
            ),
            "userFills": lambda r: user_info.user_fills(self._account(r)),
            "userFillsByTime": lambda r: user_info.user_fills(
                self._account(r),
                start_ms=integer(r, "startTime"),
                end_ms=optional_integer(r, "endTime"),
            ),
            "userRole": self._role,
            "userFees": lambda r: user_info.user_fees(self._account(r)),
            "userRateLimit": lambda r: user_info.user_rate_limit(self._account(r)),
            "userAbstraction": lambda r: "default",
            "userFunding": self._fundings,
            "userNonFundingLedgerUpdates": self._ledger,
            "historicalOrders": lambda r: user_info.historical_orders(self._exchange, address(r)),
            "userTwapSliceFills": lambda r: user_feeds.snapshot_rows(
                self._exchange, "userTwapSliceFills", address(r)
            ),
            "twapHistory": lambda r: user_feeds.snapshot_rows(
                self._exchange, "userTwapHistory", address(r)
            ),
            "activeAssetData": self._active_asset_data,
            "webData2": self._web_data2,
            # Ours alone, so that a test finds somebody who trades: makers, then takers, then TWAPs.
            "simUsers": lambda r: list(self._exchange.accounts),
            "simFaucet": self._faucet,
            "extraAgents": lambda r: self._customers.agents(address(r)),
            "maxBuilderFee": lambda r: self._customers.builder_fee(
                address(r), address({"user": r.get("builder")})
            ),
            "subAccounts": lambda r: None,
            "userVaultEquities": lambda r: [],
            "delegations": lambda r: [],
        }
        if like_node:
            for kind in NOT_AT_NODES:
                del self._handlers[kind]

    @property
    def _now_ms(self) -> int:
        return self._exchange.block.time_ms

    def answer(self, body: object) -> Answer:
        """The answer to one request body. Never raises."""
        try:
            request = known_request(body, self._handlers)
            return Answer(orjson.dumps(self._handlers[str(request["type"])](request)))
        except Refused as refused:
            return refused.answer

    def snapshot_file(self, body: dict[str, object]) -> SnapshotFile:
        """The books, or an empty referrer list, as a node would write them now. Raises Refused."""
        request, path = snapshot_request(body)
        if request["type"] == "referrerStates":
            return SnapshotFile(path, b"[]")
        height = self._exchange.block.height if body.get("includeHeightInOutput") else None
        content = render_l4(
            self._exchange.books.values(),
            height=height,
            include_users=bool(request.get("includeUsers")),
            include_triggers=bool(request.get("includeTriggerOrders")),
        )
        return SnapshotFile(path, content)

    def _dex(self, request: Event) -> str:
        dex = request.get("dex") or ""
        if dex not in ("", "xyz"):
            # The exchange answers an unknown dex with 500 and null, as it does a bad aggregation.
            raise Refused(Answer(b"null", status=500))
        return str(dex)

    def _account(self, request: Event) -> Account | None:
        return self._customers.account(address(request))

    def _funded(self, request: Event) -> Account | None:
        """Who asks for a balance is given one, where there is a faucet."""
        return self._customers.promise(address(request))

    def _faucet(self, request: Event) -> object:
        """An account for an address that has none, with `usdc` or what the faucet gives."""
        usdc = optional_integer(request, "usdc")
        if usdc is not None and not 0 < usdc <= MAX_FAUCET_USDC:
            raise unprocessable()
        account = self._customers.promise(address(request), usdc)
        return {"usdc": None if account is None else decimal_text(account.usdc, USDC_DECIMALS)}

    def _role(self, request: Event) -> object:
        user = address(request)
        master = self._customers.master(user, now_ms=self._now_ms)
        if master is not None and master != user:
            return {"role": "agent", "data": {"user": master}}
        return {"role": "user" if self._account(request) else "missing"}

    def _l2_book(self, request: Event) -> object:
        coin = text(request, "coin")
        n_sig_figs, mantissa = request.get("nSigFigs"), request.get("mantissa")
        if not is_valid_grouping(n_sig_figs, mantissa):
            raise Refused(Answer(b"null", status=500))
        book = self._exchange.books.get(coin)
        if book is None:
            known = coin in self._exchange.coins
            return {"coin": coin, "time": self._now_ms, "levels": [[], []]} if known else None
        return market_info.l2_book(
            book,
            time_ms=self._now_ms,
            n_sig_figs=optional_integer(request, "nSigFigs"),
            mantissa=optional_integer(request, "mantissa"),
        )

    def _meta_and_ctxs(self, request: Event) -> object:
        dex = self._dex(request)
        coins = market_info.perps(self._exchange, dex)
        ctxs = [market_info.ctx(self._exchange, coin, self._now_ms) for coin in coins]
        return [market_info.meta(self._exchange, dex), ctxs]

    def _spot_meta_and_ctxs(self, request: Event) -> object:
        coins = market_info.spots(self._exchange)
        ctxs = [market_info.ctx(self._exchange, coin, self._now_ms) for coin in coins]
        return [market_info.spot_meta(self._exchange), ctxs]

    def _candles(self, request: Event) -> object:
        req = request.get("req")
        if not isinstance(req, dict) or req.get("interval") not in INTERVALS_MS:
            raise unprocessable()
        tape = self._exchange.tapes.get(text(req, "coin"))
        if tape is None:
            raise Refused(Answer(b"null", status=500))
        end_ms = optional_integer(req, "endTime")
        return tape.candle_snapshot(
            str(req["interval"]),
            start_ms=integer(req, "startTime"),
            end_ms=min(self._now_ms, self._now_ms if end_ms is None else end_ms),
        )

    def _recent_trades(self, request: Event) -> object:
        tape = self._exchange.tapes.get(text(request, "coin"))
        if tape is None:
            raise Refused(Answer(b"null", status=500))
        return list(tape.recent)[: -RECENT_TRADES - 1 : -1]

    def _active_asset_data(self, request: Event) -> object:
        coin = self._exchange.coins.get(text(request, "coin"))
        if coin is None or coin.is_spot:
            raise Refused(Answer(b"null", status=500))
        user = address(request)
        return user_info.active_asset_data(
            self._exchange, self._exchange.accounts.get(user), user, coin
        )

    def _web_data2(self, request: Event) -> object:
        data = user_feeds.web_data2(self._exchange, {"user": address(request)}, self._now_ms)
        if self._like_node:
            del data["assetCtxs"], data["spotAssetCtxs"]
        return data

    def _fundings(self, request: Event) -> object:
        account = self._account(request)
        return [
            {
                "time": row["time"],
                "hash": ZERO_HASH,
                "delta": {"type": "funding"} | {k: v for k, v in row.items() if k != "time"},
            }
            for row in _between(request, account.fundings if account else ())
        ]

    def _ledger(self, request: Event) -> object:
        account = self._account(request)
        return _between(request, account.ledger if account else ())


def _between(request: Event, rows: Iterable[Event]) -> list[Event]:
    """The rows of the requested time, oldest first, 500 at most. Raises Refused."""
    start_ms = optional_integer(request, "startTime") or 0
    end_ms = optional_integer(request, "endTime")
    until = 1 << 62 if end_ms is None else end_ms
    return [row for row in rows if start_ms <= int(str(row["time"])) <= until][:MAX_ROWS]


def known_request(body: object, handlers: dict[str, Callable[[Event], object]]) -> Event:
    """The body as a request that `handlers` knows. Raises Refused."""
    if (
        not isinstance(body, dict)
        or not isinstance(body.get("type"), str)
        or body["type"] not in handlers
    ):
        raise unprocessable()
    return body


def snapshot_request(body: dict[str, object]) -> tuple[Event, str]:
    """The inner request and the output path of a fileSnapshot. Raises Refused."""
    request, path = body.get("request"), body.get("outPath")
    if (
        not isinstance(request, dict)
        or request.get("type") not in ("l4Snapshots", "referrerStates")
        or not isinstance(path, str)
        or not path
    ):
        raise unprocessable()
    return request, path


def address(request: Event) -> str:
    """The request's user in lower case. Raises Refused."""
    user = request.get("user")
    if not isinstance(user, str) or not ADDRESS.match(user):
        raise unprocessable()
    return user.lower()


def text(request: Event, key: str) -> str:
    """A required string. Raises Refused."""
    value = request.get(key)
    if not isinstance(value, str):
        raise unprocessable()
    return value


def integer(request: Event, key: str) -> int:
    """A required whole number. Raises Refused."""
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise unprocessable()
    return value


def optional_integer(request: Event, key: str) -> int | None:
    """A whole number, or None when absent or null. Raises Refused."""
    return None if request.get(key) is None else integer(request, key)
