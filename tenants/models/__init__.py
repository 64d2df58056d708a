"""Tenants and what belongs to them, a room of tables a file."""

from __future__ import annotations

from tenants.models.admission import (
    MAX_LISTED,
    MAX_PER_MINUTE,
    Allowance,
    APIKey,
    APIKeyQuerySet,
    Plan,
    PlanSubscription,
    PlanSubscriptionQuerySet,
    Quota,
    QuotaFields,
    QuotaOverride,
    QuotaWarning,
    QuotaWarningQuerySet,
    Tenant,
    TenantQuerySet,
    default_scopes,
    validate_networks,
    validate_origins,
    validate_scopes,
)

__all__ = [
    "MAX_LISTED",
    "MAX_PER_MINUTE",
    "APIKey",
    "APIKeyQuerySet",
    "Allowance",
    "Plan",
    "PlanSubscription",
    "PlanSubscriptionQuerySet",
    "Quota",
    "QuotaFields",
    "QuotaOverride",
    "QuotaWarning",
    "QuotaWarningQuerySet",
    "Tenant",
    "TenantQuerySet",
    "default_scopes",
    "validate_networks",
    "validate_origins",
    "validate_scopes",
]
