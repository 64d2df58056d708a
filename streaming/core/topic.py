"""What can be followed, in canonical form.

Two subscriptions that the exchange treats as the same thing (`{"type":"l2Book","coin":"BTC"}` and
the same with explicit nulls) are the same `Topic`, so they share one book view, one upstream
subscription and one encoded frame.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The subscription types this relay serves, by their official names where there is one."""

    L2_BOOK = "l2Book"
    BBO = "bbo"
    TRADES = "trades"
    ALL_MIDS = "allMids"
    L4_BOOK = "l4Book"
    CANDLE = "candle"
    # of the market as a whole, or of an asset
    ACTIVE_ASSET_CTX = "activeAssetCtx"
    ASSET_CTXS = "assetCtxs"
    SPOT_ASSET_CTXS = "spotAssetCtxs"
    ALL_DEXS_ASSET_CTXS = "allDexsAssetCtxs"
    FAST_ASSET_CTXS = "fastAssetCtxs"
    OUTCOME_META_UPDATES = "outcomeMetaUpdates"
    # of one user: events
    ORDER_UPDATES = "orderUpdates"
    USER_FILLS = "userFills"
    USER_EVENTS = "userEvents"
    USER_TWAP_SLICE_FILLS = "userTwapSliceFills"
    USER_TWAP_HISTORY = "userTwapHistory"
    USER_FUNDINGS = "userFundings"
    USER_LEDGER = "userNonFundingLedgerUpdates"
    USER_HISTORICAL_ORDERS = "userHistoricalOrders"
    NOTIFICATION = "notification"
    # of one user: states
    OPEN_ORDERS = "openOrders"
    CLEARINGHOUSE_STATE = "clearinghouseState"
    ALL_DEXS_CLEARINGHOUSE_STATE = "allDexsClearinghouseState"
    SPOT_STATE = "spotState"
    ACTIVE_ASSET_DATA = "activeAssetData"
    TWAP_STATES = "twapStates"
    WEB_DATA2 = "webData2"
    WEB_DATA3 = "webData3"
    # of the relay dialect alone
    L2_DIFF = "l2Diff"
    L4_DIFF = "l4Diff"
    RAW = "raw"  # one node file kind, line by line; `Topic.stream` says which


#: State topics must be fresh (the newest frame replaces a waiting one); the others must be
#: complete.
#: Events whose bytes are another order: 6 MB/s of l4Book for BTC, 7 MB/s of raw statuses.
BULK_KINDS = frozenset({Kind.L4_BOOK, Kind.L4_DIFF, Kind.RAW})
STATE_KINDS = frozenset(
    {
        Kind.L2_BOOK,
        Kind.BBO,
        Kind.ALL_MIDS,
        Kind.CANDLE,
        Kind.ACTIVE_ASSET_CTX,
        Kind.ASSET_CTXS,
        Kind.SPOT_ASSET_CTXS,
        Kind.ALL_DEXS_ASSET_CTXS,
        Kind.OPEN_ORDERS,
        Kind.CLEARINGHOUSE_STATE,
        Kind.ALL_DEXS_CLEARINGHOUSE_STATE,
        Kind.SPOT_STATE,
        Kind.ACTIVE_ASSET_DATA,
        Kind.TWAP_STATES,
        Kind.WEB_DATA2,
        Kind.WEB_DATA3,
    }
)
#: Each frame builds on the ones before it: a follower starts from a snapshot, and after a hole from
#: a new one.
CHAINED_KINDS = frozenset({Kind.L4_BOOK, Kind.L4_DIFF, Kind.L2_DIFF})

#: Behind the name of a topic whose frames do not wait for the end of their block.
BY_EVENT = "event"

DEFAULT_LEVELS = 20
FAST_LEVELS = 5
MAX_LEVELS = 100

# Names seen upstream: BTC, kPEPE, PURR/USDC, @107, #7510, xyz:SP500. No blank, because `Topic.name`
# uses one.
COIN_PATTERN = re.compile(r"[A-Za-z0-9@#:/._+-]{1,48}\Z")


class Topic(NamedTuple):
    """One followable stream. Fields that a kind does not use keep their defaults, so equality is
    identity.

    `n_levels`, `n_sig_figs`, `mantissa` and `fast` are of `l2Book` and `l2Diff` only (levels per
    side); `user` is a lower-case address; `interval` of `candle`; `aggregate` is `aggregateByTime`
    of `userFills`; `stream` is a node file kind, of `raw`; `by_event` is of `trades`: each as soon
    as it is written, and not its block.
    """

    kind: Kind
    coin: str = ""
    n_levels: int = DEFAULT_LEVELS
    n_sig_figs: int | None = None
    mantissa: int | None = None
    fast: bool = False
    dex: str = ""
    user: str = ""
    interval: str = ""
    aggregate: bool = False
    stream: str = ""
    by_event: bool = False

    @property
    def is_state(self) -> bool:
        """Whether a newer frame makes a waiting older one worthless."""
        return self.kind in STATE_KINDS

    @property
    def is_bulk(self) -> bool:
        """Whether what waits for a slow customer is bound by its age and not by its bytes."""
        return self.kind in BULK_KINDS

    @property
    def is_chained(self) -> bool:
        """Whether a frame is worth nothing without the one before it."""
        return self.kind in CHAINED_KINDS

    @property
    def name(self) -> str:
        """The topic as one line of text: the key on the bus and in leases. `parse_name` is its
        inverse."""
        match self.kind:
            case Kind.L2_BOOK | Kind.L2_DIFF:
                sig, mantissa, fast = self.n_sig_figs or 0, self.mantissa or 0, int(self.fast)
                return f"{self.kind} {self.coin} {self.n_levels} {sig} {mantissa} {fast}"
            case Kind.ALL_MIDS:
                return f"allMids {self.dex}" if self.dex else "allMids"
            case Kind.TRADES if self.by_event:
                return f"{self.kind} {self.coin} {BY_EVENT}"
            case Kind.BBO | Kind.TRADES | Kind.L4_BOOK | Kind.L4_DIFF:
                return f"{self.kind} {self.coin}"
        fields = [f"{key}={value}" for key, value in self._plain() if value]
        return " ".join([self.kind, *fields])

    def _plain(self) -> tuple[tuple[str, str], ...]:
        return (
            ("coin", self.coin),
            ("dex", self.dex),
            ("user", self.user),
            ("interval", self.interval),
            ("aggregate", "1" if self.aggregate else ""),
            ("stream", self.stream),
        )


def parse_name(name: str) -> Topic:
    """The topic that `Topic.name` wrote. Raises ValueError for anything else."""
    kind, *rest = name.split(" ")
    match Kind(kind), rest:
        case (Kind.L2_BOOK | Kind.L2_DIFF) as book, [coin, n_levels, sig, mantissa, fast]:
            return Topic(
                book,
                coin,
                n_levels=int(n_levels),
                n_sig_figs=int(sig) or None,
                mantissa=int(mantissa) or None,
                fast=fast == "1",
            )
        case Kind.ALL_MIDS, []:
            return Topic(Kind.ALL_MIDS)
        case Kind.ALL_MIDS, [dex]:
            return Topic(Kind.ALL_MIDS, dex=dex)
        case (Kind.BBO | Kind.TRADES | Kind.L4_BOOK | Kind.L4_DIFF) as plain, [coin]:
            return Topic(plain, coin)
        case Kind.TRADES, [coin, marked] if marked == BY_EVENT:
            return Topic(Kind.TRADES, coin, by_event=True)
        case ((Kind.L2_BOOK | Kind.L2_DIFF | Kind.ALL_MIDS | Kind.BBO), _):
            raise ValueError(f"not a topic name: {name!r}")
        case ((Kind.TRADES | Kind.L4_BOOK | Kind.L4_DIFF), _):
            raise ValueError(f"not a topic name: {name!r}")
    return _parse_plain(Kind(kind), rest, name)


def _parse_plain(kind: Kind, fields: list[str], name: str) -> Topic:
    values: dict[str, str] = {}
    for field in fields:
        key, _, value = field.partition("=")
        if key not in ("coin", "dex", "user", "interval", "aggregate", "stream") or not value:
            raise ValueError(f"not a topic name: {name!r}")
        values[key] = value
    aggregate = values.pop("aggregate", "") == "1"
    return Topic(kind, aggregate=aggregate, **values)  # type: ignore[arg-type]
