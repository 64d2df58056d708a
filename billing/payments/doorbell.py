"""Wakes the jobs once something is committed; beat finds what a lost ring left."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

from tenants.notices import doorbell


def charge_on_commit() -> None:
    """Have due charges made now."""
    if settings.RELAY_PAYMENTS != "manual":
        transaction.on_commit(lambda: doorbell.ring("billing.tasks.charge_invoices"))


def process_on_commit() -> None:
    """Have new webhooks processed now."""
    transaction.on_commit(lambda: doorbell.ring("billing.tasks.process_payment_events"))
