"""What of this app is audited: each change with who made it, from where, before and after; never a
secret, and nothing that the relay writes down by itself all the time."""

from __future__ import annotations

from typing import Any

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
    "AlertChoice": [],
    "QuotaOverride": ["updated_at"],
    "Allowance": ["updated_at"],
    "ExchangeRails": [],
}
#: Models without entries, and why.
UNAUDITED = {
    "ChosenLanguage": "how somebody likes to read, which gives and takes no right",
    "TermsAcceptance": "append-only: each row is itself the entry, with who, when and from where",
    "QuotaWarning": "what the relay tells, written once",
    "Notice": "what the relay tells, written once",
    "CustomerView": "each row is itself the entry, with who, when, which tenant and why",
    "TenantLogEntry": "says whose an entry of the audit is",
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
    from auditlog.signals import post_log

    post_log.connect(_note_tenant, dispatch_uid="tenants.note_tenant")


def _note_tenant(sender: object, instance: Any, log_entry: Any = None, **_: object) -> None:
    """Say whose an entry is: once a row is gone, nothing else does."""
    tenant_id = tenant_of(instance)
    if log_entry is not None and tenant_id is not None:
        apps.get_model("tenants", "TenantLogEntry").objects.create(
            tenant_id=tenant_id, entry_id=log_entry.pk
        )


def tenant_of(instance: Any) -> int | None:
    """The tenant whose business a row is, if it names one itself or by its key."""
    if isinstance(instance, apps.get_model("tenants", "Allowance")):
        return None  # written by the relay all the time, from the plan
    if isinstance(instance, apps.get_model("tenants", "Tenant")):
        return int(instance.pk)
    found = getattr(instance, "tenant_id", None)
    if found is None and isinstance(instance, apps.get_model("tenants", "ExchangeRails")):
        found = instance.key.tenant_id
    return None if found is None else int(found)
