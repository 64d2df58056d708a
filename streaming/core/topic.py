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
    """The subscription types this relay serves, by their official names."""

    L2_BOOK = "l2Book"
    BBO = "bbo"
    TRADES = "trades"
    ALL_MIDS = "allMids"
    L4_BOOK = "l4Book"


#: State topics must be fresh (the newest frame replaces a waiting one); the others must be
#: complete.
STATE_KINDS = frozenset({Kind.L2_BOOK, Kind.BBO, Kind.ALL_MIDS})

DEFAULT_LEVELS = 20
FAST_LEVELS = 5
MAX_LEVELS = 100

# Names seen upstream: BTC, kPEPE, PURR/USDC, @107, #7510, xyz:SP500. No blank, because `Topic.name`
# uses one.
COIN_PATTERN = re.compile(r"[A-Za-z0-9@#:/._+-]{1,48}\Z")


class Topic(NamedTuple):
    """One followable stream. Fields that a kind does not use keep their defaults, so equality is
    identity.

    `n_levels` counts levels per side and is meaningful for `l2Book` only; `dex` for `allMids` only.
    """

    kind: Kind
    coin: str = ""
    n_levels: int = DEFAULT_LEVELS
    n_sig_figs: int | None = None
    mantissa: int | None = None
    fast: bool = False
    dex: str = ""

    @property
    def is_state(self) -> bool:
        """Whether a newer frame makes a waiting older one worthless."""
        return self.kind in STATE_KINDS

    @property
    def name(self) -> str:
        """The topic as one line of text: the key on the bus and in leases. `parse_name` is its
        inverse."""
        if self.kind is Kind.L2_BOOK:
            sig, mantissa, fast = self.n_sig_figs or 0, self.mantissa or 0, int(self.fast)
            return f"l2Book {self.coin} {self.n_levels} {sig} {mantissa} {fast}"
        if self.kind is Kind.ALL_MIDS:
            return f"allMids {self.dex}" if self.dex else "allMids"
        return f"{self.kind} {self.coin}"


def parse_name(name: str) -> Topic:
    """The topic that `Topic.name` wrote. Raises ValueError for anything else."""
    kind, *rest = name.split(" ")
    match Kind(kind), rest:
        case Kind.L2_BOOK, [coin, n_levels, sig, mantissa, fast]:
            return Topic(
                Kind.L2_BOOK,
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
        case (Kind.BBO | Kind.TRADES | Kind.L4_BOOK) as plain, [coin]:
            return Topic(plain, coin)
    raise ValueError(f"not a topic name: {name!r}")
