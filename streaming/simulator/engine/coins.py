"""The simulated listing: what can be traded, with the real size decimals and the real tick rule.

Prices and sizes inside the engine are integers: `px` counts 10^-px_decimals quote units and `sz`
counts 10^-sz_decimals base units, so a price times a size is a whole number of 10^-6 USDC (perps)
or 10^-8 USDC (spot).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MAX_SIG_FIGS = 5
PERP_MAX_DECIMALS = 6
SPOT_MAX_DECIMALS = 8


class Market(StrEnum):
    """Which of the exchange's venues a coin belongs to."""

    PERP = "perp"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Coin:
    """One listing.

    `start_px` is the price its walk begins at and returns to, in quote units. `activity` is the
    mean number of actions a block. `dex` is empty on the main dex and for spot; `base` is the base
    token of a spot pair.
    """

    name: str
    sz_decimals: int
    start_px: float
    max_leverage: int = 10
    activity: float = 1.0
    market: Market = Market.PERP
    dex: str = ""
    base: str = ""
    spot_index: int = 0
    is_delisted: bool = False
    px_decimals: int = field(init=False)

    def __post_init__(self) -> None:
        most = SPOT_MAX_DECIMALS if self.market is Market.SPOT else PERP_MAX_DECIMALS
        object.__setattr__(self, "px_decimals", most - self.sz_decimals)

    @property
    def is_spot(self) -> bool:
        """Whether a trade moves tokens rather than a position."""
        return self.market is Market.SPOT

    def tick(self, px: int) -> int:
        """The price step valid at `px`: five significant figures, and whole numbers always."""
        return int(min(10 ** max(0, len(str(px)) - MAX_SIG_FIGS), 10**self.px_decimals))

    def is_valid_px(self, px: int) -> bool:
        """Whether the exchange would take an order at this price."""
        return px > 0 and px % self.tick(px) == 0

    def snap_down(self, px: float) -> int:
        """The highest valid price at or below `px`, which is in scaled units; at least one tick."""
        whole = max(int(px), 1)
        step = self.tick(whole)
        return max(whole - whole % step, step)

    def snap_up(self, px: float) -> int:
        """The lowest valid price at or above `px`, which is in scaled units."""
        low = self.snap_down(px)
        return low if low >= px else low + self.tick(low)

    def px_text(self, px: int) -> str:
        """A scaled price as the exchange prints it."""
        return decimal_text(px, self.px_decimals)

    def sz_text(self, sz: int) -> str:
        """A scaled size as the exchange prints it."""
        return decimal_text(sz, self.sz_decimals)


def decimal_text(scaled: int, decimals: int) -> str:
    """`scaled` × 10^-decimals without exponent and without needless zeros, but with one decimal at
    least.

    Source: every recorded price and size; whole numbers print as `84143.0`.
    """
    sign = "-" if scaled < 0 else ""
    if decimals == 0:
        return f"{scaled}.0"
    whole, part = divmod(abs(scaled), 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0")
    return f"{sign}{whole}.{digits or '0'}"


MAIN_PERPS = (
    Coin("BTC", 5, 84_143.0, 40, 4.0),
    Coin("ETH", 4, 2_914.6, 25, 2.5),
    Coin("SOL", 2, 141.73, 20, 2.0),
    Coin("HYPE", 2, 38.412, 10, 2.0),
    Coin("XRP", 0, 2.1463, 20, 0.8),
    Coin("DOGE", 0, 0.16412, 10, 0.8),
    Coin("kPEPE", 0, 0.009841, 10, 0.8),
    Coin("MATIC", 1, 0.37621, 20, 0.0, is_delisted=True),
    Coin("BNB", 3, 872.4, 10, 0.6),
    Coin("AVAX", 2, 18.352, 10, 0.6),
    Coin("LINK", 1, 13.871, 10, 0.6),
    Coin("SUI", 1, 1.8234, 10, 0.6),
    Coin("LTC", 2, 83.27, 10, 0.8),
    Coin("ARB", 1, 0.28341, 10, 0.8),
    Coin("APT", 2, 3.0412, 10, 0.8),
    Coin("INJ", 1, 7.412, 10, 0.8),
    Coin("TIA", 1, 0.8123, 10, 0.6),
    Coin("SEI", 0, 0.15231, 10, 0.6),
    Coin("WLD", 1, 0.74122, 10, 0.6),
    Coin("FARTCOIN", 1, 0.31234, 10, 0.6),
)
SPOT_PAIRS = (
    Coin("PURR/USDC", 0, 0.10412, 1, 0.6, Market.SPOT, base="PURR", spot_index=0),
    Coin("@107", 2, 38.405, 1, 1.2, Market.SPOT, base="HYPE", spot_index=107),
)
BUILDER_PERPS = (Coin("xyz:SP500", 3, 6_742.1, 20, 1.0, dex="xyz"),)

DEFAULT_PERPS = 13


def listing(*, perps: int = DEFAULT_PERPS) -> tuple[Coin, ...]:
    """The first `perps` main perps (invented names beyond the known ones), both spot pairs and the
    builder dex.

    One of the known perps, MATIC, is delisted: it keeps its index and has no book, as on the
    exchange.
    """
    invented = (
        Coin(f"SIM{index}", index % 4, 10.0 ** (index % 5 - 1) * 1.7, 5, 0.5)
        for index in range(perps - len(MAIN_PERPS))
    )
    return (*MAIN_PERPS[:perps], *invented, *SPOT_PAIRS, *BUILDER_PERPS)
