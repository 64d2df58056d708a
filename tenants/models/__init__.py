"""Tenants and what belongs to them, a room of tables a file."""

from __future__ import annotations

from tenants.models.admission import (
    MAX_LISTED,
    MAX_PER_MINUTE,
    APIKey,
    APIKeyQuerySet,
    Plan,
    PlanSubscription,
    PlanSubscriptionQuerySet,
    Quota,
    Tenant,
    TenantQuerySet,
    default_scopes,
    validate_networks,
    validate_origins,
    validate_scopes,
)
from tenants.models.people import (
    BillingProfile,
    Invitation,
    InvitationQuerySet,
    Membership,
    TenantScoped,
    TermsAcceptance,
    TermsAcceptanceQuerySet,
)

__all__ = [
    "MAX_LISTED",
    "MAX_PER_MINUTE",
    "APIKey",
    "APIKeyQuerySet",
    "BillingProfile",
    "Invitation",
    "InvitationQuerySet",
    "Membership",
    "Plan",
    "PlanSubscription",
    "PlanSubscriptionQuerySet",
    "Quota",
    "Tenant",
    "TenantQuerySet",
    "TenantScoped",
    "TermsAcceptance",
    "TermsAcceptanceQuerySet",
    "default_scopes",
    "validate_networks",
    "validate_origins",
    "validate_scopes",
]
