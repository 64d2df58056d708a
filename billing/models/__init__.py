"""What was used and what it costs, a room of tables a file."""

from __future__ import annotations

from billing.models.catalogue import (
    AddOn,
    AddOnSubscription,
    AddOnVersion,
    AppliedTerms,
    BillingAnchor,
    BillingChoice,
    DiscountGrant,
    OwnTerms,
    PlannedChange,
    PlanVersion,
    Wallet,
    WalletEntry,
)
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
    "AddOn",
    "AddOnSubscription",
    "AddOnVersion",
    "AppliedTerms",
    "BillingAnchor",
    "BillingChoice",
    "DailyRollup",
    "DiscountGrant",
    "LedgerEntry",
    "LedgerSeal",
    "Metric",
    "MonthlyRollup",
    "OwnTerms",
    "PlanVersion",
    "PlannedChange",
    "QuarantinedBatch",
    "Rollup",
    "UsageBatch",
    "UsageRollup",
    "Wallet",
    "WalletEntry",
]
