"""What was used and what it costs, a room of tables a file."""

from __future__ import annotations

from billing.models.coins import CoinHour, CoinRollup
from billing.models.usage import (
    NO_SEAL,
    OTHER_COINS,
    SUSPENSE,
    Account,
    DailyRollup,
    LedgerEntry,
    LedgerSeal,
    Metric,
    MonthlyRollup,
    QuarantinedBatch,
    Rollup,
    UsageBatch,
    UsageRollup,
)

__all__ = [
    "NO_SEAL",
    "OTHER_COINS",
    "SUSPENSE",
    "Account",
    "CoinHour",
    "CoinRollup",
    "DailyRollup",
    "LedgerEntry",
    "LedgerSeal",
    "Metric",
    "MonthlyRollup",
    "QuarantinedBatch",
    "Rollup",
    "UsageBatch",
    "UsageRollup",
]
