"""/info and subscriptions of a recording: what was recorded is listed, and its last state is
answered.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal

import orjson

from streaming.simulator.engine.block import Event
from streaming.simulator.engine.coins import MAIN_PERPS
from streaming.simulator.replay.sources import RecordedFrame
from streaming.simulator.servers.dialect import USER_FEEDS, Subscription
from streaming.simulator.servers.feeds import TRADES_REPLAYED, frame
from streaming.simulator.servers.info import (
    Answer,
    Refused,
    SnapshotFile,
    known_request,
    snapshot_request,
    text,
    unprocessable,
)
from streaming.simulator.servers.market_info import BUILDER_DEX, USDC_TOKEN, still_ctx

KNOWN_SZ_DECIMALS = {coin.name: coin.sz_decimals for coin in MAIN_PERPS}
EVENT_CHANNELS = frozenset({"trades", "orderUpdates", "user", "userFills"})


class RecordedMarket:
    """The recording so far: feeds and /info desk in one, as both answer from the last frames."""

    def __init__(self, coins: set[str], *, snapshot: bytes | None) -> None:
        self.coins = coins
        self._snapshot = snapshot
        self._last: dict[str, RecordedFrame] = {}
        self._trades: dict[str, deque[object]] = {}
        self._handlers: dict[str, Callable[[Event], object]] = {
            "meta": self._meta,
            "metaAndAssetCtxs": lambda r: [
                self._meta(r),
                [self._ctx(coin) for coin in self._perps(r)],
            ],
            "spotMeta": lambda r: self._spot_meta(),
            "spotMetaAndAssetCtxs": lambda r: [self._spot_meta(), []],
            "perpDexs": lambda r: [
                None,
                *({**BUILDER_DEX, "name": dex, "fullName": dex} for dex in self._dexes()),
            ],
            "outcomeMeta": lambda r: self._outcome_meta(),
            "allMids": self._all_mids,
            "l2Book": lambda r: self._data(f"l2Book {text(r, 'coin')}"),
            "recentTrades": self._recent_trades,
            "exchangeStatus": lambda r: {"specialStatuses": None, "time": self._now_ms()},
            "candleSnapshot": lambda r: [],
            "openOrders": lambda r: [],
            "frontendOpenOrders": lambda r: [],
            "userFills": lambda r: [],
            "userRole": lambda r: {"role": "missing"},
        }

    def record(self, recorded: RecordedFrame) -> None:
        """Take a frame that is about to be served into the last known state."""
        self._last[recorded.route] = recorded
        if recorded.channel == "trades" and isinstance(recorded.data, list):
            seen = self._trades.setdefault(recorded.route, deque(maxlen=TRADES_REPLAYED))
            known = {trade["tid"] for trade in seen if isinstance(trade, dict)}
            seen.extend(trade for trade in recorded.data if trade["tid"] not in known)

    # Feeds

    def is_known(self, subscription: Subscription) -> bool:
        """Any recorded coin; parameters do not matter, as a recording has only what it has."""
        kind = subscription["type"]
        return kind == "allMids" or kind in USER_FEEDS or subscription["coin"] in self.coins

    def route(self, subscription: Subscription, text: str) -> str:
        """Channel and subject: however a book was asked for, the recorded one is served."""
        kind = subscription["type"]
        if kind in ("orderUpdates", "userEvents"):
            return str(kind)
        keys = ("coin", "interval", "user", "dex")
        subject = " ".join(str(subscription[key]) for key in keys if subscription.get(key))
        return f"{kind} {subject}".rstrip()

    def first_frames(self, subscription: Subscription) -> list[bytes]:
        """The last state frame, or the last 30 trades; nothing before the replay has begun."""
        route = self.route(subscription, "")
        if route in self._trades:
            return [frame("trades", list(self._trades[route]))]
        last = self._last.get(route)
        return [] if last is None or last.channel in EVENT_CHANNELS else [last.payload]

    # InfoDesk

    def answer(self, body: object) -> Answer:
        """The answer to one request body. Never raises."""
        try:
            request = known_request(body, self._handlers)
            return Answer(orjson.dumps(self._handlers[str(request["type"])](request)))
        except Refused as refused:
            return refused.answer

    def snapshot_file(self, body: dict[str, object]) -> SnapshotFile:
        """The recorded snapshot, without users or height where they are not asked for. Raises
        Refused.
        """
        request, path = snapshot_request(body)
        if self._snapshot is None or request["type"] != "l4Snapshots":
            raise Refused(Answer(b"no snapshot was recorded", status=500, is_text=True))
        include_users = bool(request.get("includeUsers"))
        if include_users and body.get("includeHeightInOutput"):
            return SnapshotFile(path, self._snapshot)
        height, coins = orjson.loads(self._snapshot)
        if not include_users:
            coins = [
                [coin, [[order for _, order in side] for side in sides]] for coin, sides in coins
            ]
        return SnapshotFile(
            path, orjson.dumps([height, coins] if body.get("includeHeightInOutput") else coins)
        )

    def _perps(self, request: Event) -> list[str]:
        dex = request.get("dex") or ""
        if not isinstance(dex, str):
            raise unprocessable()
        return sorted(coin for coin in self.coins if not _is_spot(coin) and _dex(coin) == dex)

    def _dexes(self) -> list[str]:
        return sorted({_dex(coin) for coin in self.coins} - {""})

    def _meta(self, request: Event) -> Event:
        # Outcome coins (#7510) are listed among the perps: clients find a coin only through meta
        # and spotMeta.
        universe = [
            {
                "szDecimals": KNOWN_SZ_DECIMALS.get(coin, 0),
                "name": coin,
                "maxLeverage": 10,
                "marginTableId": 10,
            }
            for coin in self._perps(request)
        ]
        table = {"description": "", "marginTiers": [{"lowerBound": "0.0", "maxLeverage": 10}]}
        return {"universe": universe, "marginTables": [[10, table]], "collateralToken": 0}

    def _spot_meta(self) -> Event:
        pairs: list[Event] = []
        tokens = [USDC_TOKEN]
        for number, coin in enumerate(sorted(filter(_is_spot, self.coins)), start=1):
            index = int(coin[1:]) if coin.startswith("@") else 0
            token = {
                **USDC_TOKEN,
                "name": f"TOKEN{number}",
                "szDecimals": 2,
                "index": number,
                "isCanonical": False,
            }
            pairs.append(
                {"tokens": [number, 0], "name": coin, "index": index, "isCanonical": index == 0}
            )
            tokens.append(token)
        return {"universe": pairs, "tokens": tokens}

    def _outcome_meta(self) -> Event:
        outcomes = sorted({int(coin[1:]) // 10 for coin in self.coins if coin.startswith("#")})
        sides = [{"name": "Yes"}, {"name": "No"}]
        return {
            "outcomes": [
                {"outcome": each, "name": f"Outcome {each}", "description": "", "sideSpecs": sides}
                for each in outcomes
            ],
            "questions": [],
        }

    def _ctx(self, coin: str) -> Event | None:
        data = self._data(f"activeAssetCtx {coin}")
        if isinstance(data, dict):
            return dict(data["ctx"])
        mid = self._mid(coin)
        return still_ctx(mid or "0.0", mid=mid)

    def _all_mids(self, request: Event) -> object:
        recorded = self._data(f"allMids {request.get('dex') or ''}".rstrip())
        if isinstance(recorded, dict):
            return recorded["mids"]
        mids = (
            (coin, self._mid(coin))
            for coin in sorted(self.coins)
            if _dex(coin) == (request.get("dex") or "")
        )
        return {coin: mid for coin, mid in mids if mid is not None}

    def _mid(self, coin: str) -> str | None:
        newest = max(
            (
                self._last[route]
                for route in (f"bbo {coin}", f"l2Book {coin}")
                if route in self._last
            ),
            key=lambda recorded: recorded.at_ns,
            default=None,
        )
        if newest is None or not isinstance(newest.data, dict):
            return None
        if newest.channel == "bbo":
            bid, ask = newest.data["bbo"]
        else:
            bid, ask = ((side[0] if side else None) for side in newest.data["levels"])
        if bid is None or ask is None:
            return None
        mid = f"{(Decimal(bid['px']) + Decimal(ask['px'])) / 2:f}"
        return mid if "." in mid else f"{mid}.0"

    def _recent_trades(self, request: Event) -> object:
        return list(reversed(self._trades.get(f"trades {text(request, 'coin')}", ())))

    def _data(self, route: str) -> object:
        last = self._last.get(route)
        return None if last is None else last.data

    def _now_ms(self) -> int:
        newest = max((recorded.at_ns for recorded in self._last.values()), default=time.time_ns())
        return newest // 1_000_000


def _is_spot(coin: str) -> bool:
    return coin.startswith("@") or "/" in coin


def _dex(coin: str) -> str:
    dex, colon, _ = coin.partition(":")
    return dex if colon else ""
