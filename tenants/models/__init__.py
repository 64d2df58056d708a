"""Tenants and what belongs to them, a room of tables a file."""

from __future__ import annotations

from tenants.models.admission import (
    KEY_RIGHTS,
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
from tenants.models.looking import CustomerView, TenantLogEntry
from tenants.models.notices import (
    Delivery,
    DeliveryAttempt,
    Notice,
    WebhookEndpoint,
    validate_kinds,
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
from tenants.models.rails import ExchangeRails
from tenants.models.tokens import DashboardToken

__all__ = [
    "KEY_RIGHTS",
    "MAX_LISTED",
    "MAX_PER_MINUTE",
    "APIKey",
    "APIKeyQuerySet",
    "Allowance",
    "BillingProfile",
    "CustomerView",
    "DashboardToken",
    "Delivery",
    "DeliveryAttempt",
    "ExchangeRails",
    "Invitation",
    "InvitationQuerySet",
    "Membership",
    "Notice",
    "Plan",
    "PlanSubscription",
    "PlanSubscriptionQuerySet",
    "Quota",
    "QuotaFields",
    "QuotaOverride",
    "QuotaWarning",
    "QuotaWarningQuerySet",
    "Tenant",
    "TenantLogEntry",
    "TenantQuerySet",
    "TenantScoped",
    "TermsAcceptance",
    "TermsAcceptanceQuerySet",
    "WebhookEndpoint",
    "default_scopes",
    "validate_kinds",
    "validate_networks",
    "validate_origins",
    "validate_scopes",
]
