"""The provider of a relay that has none: payments are recorded by hand, nothing happens by
itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NoReturn

from billing.models import Invoice, Payment
from billing.payments.provider import (
    Charge,
    RefusedError,
    Returned,
    WebhookEvent,
    WebhookRefusedError,
)
from tenants.models import Tenant


def _by_hand() -> NoReturn:
    raise RefusedError("by_hand", "payments are recorded by hand here (RELAY_PAYMENTS=manual)")


class ManualProvider:
    """Refuses everything, with a line that says why."""

    name = "manual"
    is_automatic = False

    def ensure_customer(self, tenant: Tenant) -> str:
        _by_hand()

    def setup_method(self, tenant: Tenant, *, customer: str) -> str:
        _by_hand()

    def method_of(self, customer: str) -> str:
        return ""

    def charge(
        self, invoice: Invoice, amount: Decimal, idempotency_key: str, *, customer: str, method: str
    ) -> Charge:
        _by_hand()

    def find(self, customer: str, idempotency_key: str, *, since: datetime) -> Charge | None:
        return None

    def look(self, reference: str) -> Charge:
        _by_hand()

    def close(self, reference: str) -> Charge:
        _by_hand()

    def refund(self, payment: Payment, amount: Decimal, idempotency_key: str) -> Returned:
        _by_hand()

    def returns(self, reference: str) -> list[Returned]:
        return []

    def parse_webhook(self, body: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        raise WebhookRefusedError("no payment provider is set up here (RELAY_PAYMENTS=manual)")
