"""What a payment provider can do, and the words in which it answers. It knows no rows: services
write down what it says.

Amounts are US dollars in whole cents unless a `currency` beside them says otherwise. Every call may
take seconds, so none is made inside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from billing.models import Invoice, Payment
from tenants.models import Tenant


class Outcome(StrEnum):
    """What became of a charge."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REQUIRES_ACTION = "requires_action"


#: The code of a charge that can never succeed any more.
CLOSED = "canceled"


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge as the provider has it now. `reference` is its name there, `key` the idempotency key
    of ours that made it (empty: it is not ours). `amount` is what was taken once it succeeded, else
    what was asked for. `code` and `reason` say in one word and one line why it failed."""

    outcome: Outcome
    reference: str = ""
    key: str = ""
    amount: Decimal = Decimal(0)
    currency: str = "USD"
    at: datetime | None = None
    code: str = ""
    reason: str = ""


class Return(StrEnum):
    """What became of money that goes back."""

    PENDING = "pending"
    RETURNED = "returned"
    UNDONE = "undone"  # a refund that failed, a dispute that was won: it is ours again


@dataclass(frozen=True, slots=True)
class Returned:
    """Money of a charge that went back: a refund, or a dispute that the bank decided to open."""

    reference: str
    amount: Decimal
    state: Return
    is_dispute: bool = False
    key: str = ""
    currency: str = "USD"
    at: datetime | None = None


class Subject(StrEnum):
    """What a webhook is about: the thing to ask the provider for."""

    CHARGE = "charge"
    CUSTOMER = "customer"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A webhook whose signature is good. It says what to ask about, and is believed in nothing
    else: so it may come late, twice or in any order."""

    id: str
    kind: str
    subject: Subject
    reference: str
    at: datetime | None = None


class ProviderError(Exception):
    """The provider did not do it. Its text holds no secret, and is one line."""


class OutcomeUnknownError(ProviderError):
    """It may have been done or not: no answer, or none that says so. Ask again later."""


class RefusedError(ProviderError):
    """It was not done, and will not be when it is asked for in the same way."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}" if reason else code)
        self.code, self.reason = code, reason


class WebhookRefusedError(Exception):
    """The request proves nothing: a bad signature, or one that is too old."""


class PaymentProvider(Protocol):
    """Charges customers. Every call raises OutcomeUnknownError and RefusedError."""

    name: str
    #: Whether it charges at all; with one that does not, nothing else is called.
    is_automatic: bool

    def ensure_customer(self, tenant: Tenant) -> str:
        """Make the tenant known there. Answers its reference; two calls at once make one."""

    def setup_method(self, tenant: Tenant, *, customer: str) -> str:
        """The address of a page of the provider's, where the tenant leaves a way to pay. Card
        numbers never pass through here."""

    def method_of(self, customer: str) -> str:
        """The reference of what a customer pays with by default; empty: nothing."""

    def charge(
        self,
        invoice: Invoice,
        amount: Decimal,
        idempotency_key: str,
        *,
        customer: str,
        method: str,
    ) -> Charge:
        """Take `amount` for an invoice. The same key takes it once, whoever asks how often, for as
        long as `key_life_s`."""

    def find(self, customer: str, idempotency_key: str, *, since: datetime) -> Charge | None:
        """The charge of a key, made at `since` or later; None: there is none (yet)."""

    def look(self, reference: str) -> Charge:
        """A charge as it is now."""

    def close(self, reference: str) -> Charge:
        """Make sure that a charge which did not succeed never will. Answers what it is then: it may
        have succeeded meanwhile."""

    def refund(self, payment: Payment, amount: Decimal, idempotency_key: str) -> Returned:
        """Send `amount` of a payment back."""

    def returns(self, reference: str) -> list[Returned]:
        """The refunds and disputes of a charge."""

    def parse_webhook(self, body: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        """What a webhook is about. Raises WebhookRefusedError for a missing, bad or old
        signature. Within minutes the same request is good again: whoever keeps events by their id
        takes a replay for what it is, nothing new."""
