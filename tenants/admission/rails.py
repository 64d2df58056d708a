"""Guard rails of a key for the exchange, as the doors know them. What is against them is decided by
`gateway/exchange/rails.py`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Rails:
    """What is set for a key; None and empty are no limit. Amounts are USD.

    `signers` are lower-case addresses; `kinds` action types; `coins` names as the exchange writes
    them.
    """

    is_killed: bool = False
    is_cancel_only: bool = False
    signers: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    coins: frozenset[str] = frozenset()
    max_order_usd: Decimal | None = None
    max_minute_usd: Decimal | None = None

    @property
    def need_prices(self) -> bool:
        """Whether prices are needed for what has none that binds."""
        return self.max_order_usd is not None or self.max_minute_usd is not None
