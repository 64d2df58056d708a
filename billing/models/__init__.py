"""What was used and what it costs, a room of tables a file."""

from __future__ import annotations

from billing.models.usage import (
    NO_SEAL,
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
    "SUSPENSE",
    "Account",
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
