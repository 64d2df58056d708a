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
    TenantTerms,
    Wallet,
    WalletEntry,
)
from billing.models.coins import CoinHour, CoinRollup
from billing.models.concessions import Concession
from billing.models.corrections import (
    Adjustment,
    CreditNote,
    CreditNoteLine,
    InvoiceReplacement,
    PeriodLock,
)
from billing.models.documents import CreditNoteMailing, InvoiceDocument
from billing.models.freezing import FrozenError
from billing.models.invoices import (
    Invoice,
    InvoiceCursor,
    InvoiceEvent,
    InvoiceLine,
    InvoiceStanding,
    NumberSeries,
)
from billing.models.kinds import KindChange
from billing.models.payments import Payment, PaymentAllocation
from billing.models.providers import (
    ChargeAttempt,
    ProviderCustomer,
    ProviderEvent,
    ProviderReturn,
)
from billing.models.sellers import BrandAsset, Seller
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
    "AddOn",
    "AddOnSubscription",
    "AddOnVersion",
    "Adjustment",
    "AppliedTerms",
    "BillingAnchor",
    "BillingChoice",
    "BrandAsset",
    "ChargeAttempt",
    "CoinHour",
    "CoinRollup",
    "Concession",
    "CreditNote",
    "CreditNoteLine",
    "CreditNoteMailing",
    "DailyRollup",
    "DiscountGrant",
    "FrozenError",
    "Invoice",
    "InvoiceCursor",
    "InvoiceDocument",
    "InvoiceEvent",
    "InvoiceLine",
    "InvoiceReplacement",
    "InvoiceStanding",
    "KindChange",
    "LedgerEntry",
    "LedgerSeal",
    "Metric",
    "MonthlyRollup",
    "NumberSeries",
    "OwnTerms",
    "Payment",
    "PaymentAllocation",
    "PeriodLock",
    "PlanVersion",
    "PlannedChange",
    "ProviderCustomer",
    "ProviderEvent",
    "ProviderReturn",
    "QuarantinedBatch",
    "Rollup",
    "Seller",
    "TenantTerms",
    "UsageBatch",
    "UsageRollup",
    "Wallet",
    "WalletEntry",
]
