"""What of this app is audited: each change with who made it, from where, before and after; never a
secret, and nothing that the relay writes down by itself all the time."""

from __future__ import annotations

from django.apps import apps

#: Fields that no entry shows.
EXCLUDED = {
    "Tenant": [],
    "Plan": [],
    "Quota": [],
    "PlanSubscription": [],
    "APIKey": ["digest", "last_used_at"],
    "Membership": [],
    "Invitation": ["digest", "sent_at"],
    "BillingProfile": ["updated_at"],
    "WebhookEndpoint": [
        "fingerprint",
        "previous_fingerprint",
        "failures",
        "failing_since",
        "retry_at",
    ],
    "QuotaOverride": ["updated_at"],
    "Allowance": ["updated_at"],
    "ExchangeRails": [],
}
#: Models without entries, and why.
UNAUDITED = {
    "TermsAcceptance": "append-only: each row is itself the entry, with who, when and from where",
    "QuotaWarning": "what the relay tells, written once",
    "Notice": "what the relay tells, written once",
    "DashboardToken": "made every few minutes by each open page, and gone as soon",
    "Delivery": "its attempts are its log",
    "DeliveryAttempt": "append-only: the log itself",
}


def register() -> None:
    """Have `django-auditlog` watch the models of `EXCLUDED`."""
    from auditlog.registry import auditlog

    for name, fields in EXCLUDED.items():
        auditlog.register(apps.get_model("tenants", name), exclude_fields=fields)
    # Not ours, but who gets or loses a second factor is: when, by whom, of what type.
    auditlog.register(
        apps.get_model("mfa", "Authenticator"), exclude_fields=["data", "last_used_at"]
    )
