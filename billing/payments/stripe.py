"""Stripe: the one module that imports its library, whose objects and errors do not leave it.

Source: docs.stripe.com/api (PaymentIntents, Refunds, Disputes, Checkout Sessions, idempotent
requests: a key is kept for 24 hours at least, with its first answer, also when that was a 500).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import stripe

from billing.models import Invoice, Payment
from billing.payments.provider import (
    CLOSED,
    Charge,
    Outcome,
    OutcomeUnknownError,
    RefusedError,
    Return,
    Returned,
    Subject,
    WebhookEvent,
    WebhookRefusedError,
)
from tenants.models import Tenant
from tenants.people.selectors import billing_identity

TIMEOUT_S = 20.0
#: A signature is good for so long.
TOLERANCE_S = 300
#: The name under which a charge or refund carries our idempotency key.
OUR_KEY = "relay_key"
_ACTION = frozenset({"authentication_required", "authentication_not_handled"})
_PENDING = frozenset({"processing", "requires_capture", "requires_confirmation"})
#: Words in a text of theirs that may be a secret.
_SECRET = re.compile(r"(?:sk|rk|pk)_(?:live|test)_[^\s'\"]+|whsec_[^\s'\"]+")


class StripeProvider:
    """Cards and debits that customers left at Stripe, charged while they are away."""

    name = "stripe"
    is_automatic = True

    def __init__(
        self, *, secret_key: str, webhook_secret: str, api_base: str = "", site_url: str = ""
    ) -> None:
        self._webhook_secret, self._site_url = webhook_secret, site_url
        # We ask again ourselves: a second request within the first would hide what happened.
        self._api = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api_base} if api_base else None,
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=TIMEOUT_S),
        ).v1

    def __repr__(self) -> str:
        return "StripeProvider()"

    def ensure_customer(self, tenant: Tenant) -> str:
        identity = billing_identity(tenant)
        params: Any = {
            "name": identity.legal_name,
            "metadata": {"relay_tenant": tenant.slug},
        }
        if identity.invoice_emails:
            params["email"] = identity.invoice_emails[0]
        # By the content, since a key with other parameters is refused.
        content = json.dumps(params, sort_keys=True).encode()
        key = f"customer-{hashlib.sha256(content).hexdigest()[:40]}"
        made = _ask(lambda: self._api.customers.create(params, {"idempotency_key": key}))
        return str(made["id"])

    def setup_method(self, tenant: Tenant, *, customer: str) -> str:
        made = _ask(
            lambda: self._api.checkout.sessions.create(
                {
                    "mode": "setup",
                    "customer": customer,
                    "currency": "usd",
                    "success_url": f"{self._site_url}/",
                    "cancel_url": f"{self._site_url}/",
                }
            )
        )
        return str(made["url"])

    def method_of(self, customer: str) -> str:
        known = _ask(lambda: self._api.customers.retrieve(customer))
        if known.get("deleted"):
            return ""
        chosen = (known.get("invoice_settings") or {}).get("default_payment_method")
        if chosen:
            return str(chosen)
        methods = _ask(lambda: self._api.payment_methods.list({"customer": customer, "limit": 1}))
        return next((str(method["id"]) for method in methods["data"]), "")

    def charge(
        self, invoice: Invoice, amount: Decimal, idempotency_key: str, *, customer: str, method: str
    ) -> Charge:
        try:
            intent = _ask(
                lambda: self._api.payment_intents.create(
                    {
                        "amount": _cents(amount),
                        "currency": "usd",
                        "customer": customer,
                        "payment_method": method,
                        "off_session": True,
                        "confirm": True,
                        "description": f"Invoice {invoice.number}",
                        "metadata": {OUR_KEY: idempotency_key, "invoice": str(invoice.number)},
                    },
                    {"idempotency_key": idempotency_key},
                )
            )
        except _DeclinedError as declined:
            return declined.charge(amount, idempotency_key)
        return _charge(intent)

    def find(self, customer: str, idempotency_key: str, *, since: datetime) -> Charge | None:
        after = ""
        while True:
            params: Any = {
                "customer": customer,
                "created": {"gte": int((since - timedelta(minutes=10)).timestamp())},
                "limit": 100,
            }
            if after:
                params["starting_after"] = after
            page = _ask(partial(self._api.payment_intents.list, params))
            for intent in page["data"]:
                if (intent.get("metadata") or {}).get(OUR_KEY) == idempotency_key:
                    return _charge(intent)
            if not page.get("has_more") or not page["data"]:
                return None
            after = page["data"][-1]["id"]

    def look(self, reference: str) -> Charge:
        return _charge(_ask(lambda: self._api.payment_intents.retrieve(reference)))

    def close(self, reference: str) -> Charge:
        now = self.look(reference)
        if now.outcome is Outcome.SUCCEEDED or now.code == CLOSED:
            return now
        try:
            return _charge(_ask(lambda: self._api.payment_intents.cancel(reference)))
        except RefusedError:
            return self.look(reference)  # it moved on meanwhile: see whereto

    def refund(self, payment: Payment, amount: Decimal, idempotency_key: str) -> Returned:
        return _refund(
            _ask(
                lambda: self._api.refunds.create(
                    {
                        "payment_intent": payment.reference,
                        "amount": _cents(amount),
                        "metadata": {OUR_KEY: idempotency_key},
                    },
                    {"idempotency_key": idempotency_key},
                )
            )
        )

    def returns(self, reference: str) -> list[Returned]:
        only: Any = {"payment_intent": reference, "limit": 100}
        refunds = _ask(lambda: self._api.refunds.list(only))["data"]
        disputes = _ask(lambda: self._api.disputes.list(only))["data"]
        return [_refund(row) for row in refunds] + [
            _dispute(row) for row in disputes if not row["status"].startswith("warning_")
        ]

    def parse_webhook(self, body: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        signature = headers.get("Stripe-Signature", "")
        if not signature:
            raise WebhookRefusedError("no Stripe-Signature")
        try:
            event = stripe.Webhook.construct_event(
                body, signature, self._webhook_secret, tolerance=TOLERANCE_S
            ).to_dict()
            subject, reference = _subject(str(event["type"]), event["data"])
            return WebhookEvent(
                id=str(event["id"]),
                kind=str(event["type"]),
                subject=subject,
                reference=reference,
                at=_time(event.get("created")),
            )
        except stripe.SignatureVerificationError as error:
            # Not its text: that may quote what was sent.
            is_old = "tolerance" in str(error)
            raise WebhookRefusedError(
                f"signed more than {TOLERANCE_S} s ago" if is_old else "the signature is wrong"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise WebhookRefusedError("it is signed, and no event that can be read") from None


class _DeclinedError(RefusedError):
    """The customer's bank said no. There is a charge all the same, that failed."""

    def __init__(self, error: stripe.CardError) -> None:
        answer = error.json_body.get("error", {}) if isinstance(error.json_body, dict) else {}
        code = answer.get("decline_code") or answer.get("code") or "card_declined"
        super().__init__(str(code), _line(error.user_message))
        self.intent = answer.get("payment_intent") or {}
        self.needs_action = {answer.get("code"), answer.get("decline_code")} & _ACTION

    def charge(self, amount: Decimal, key: str) -> Charge:
        """As one that failed."""
        return Charge(
            Outcome.REQUIRES_ACTION if self.needs_action else Outcome.FAILED,
            reference=str(self.intent.get("id", "")),
            key=key,
            amount=amount,
            code=self.code,
            reason=self.reason,
        )


def _ask(call: Callable[[], Any]) -> Any:
    """Their answer as plain JSON. What is not an answer about this very request is no outcome."""
    try:
        return call().to_dict()
    except stripe.CardError as error:
        raise _DeclinedError(error) from None
    except stripe.IdempotencyError:
        raise OutcomeUnknownError("the key is in use with other parameters") from None
    except stripe.InvalidRequestError as error:
        if error.http_status == 409:
            raise OutcomeUnknownError("the same request is under way") from None
        raise RefusedError(error.code or "invalid_request", _line(error.user_message)) from None
    except stripe.StripeError as error:
        # Keys that are refused, limits, no answer, theirs is broken. Its kind and not its text,
        # which may quote what we logged in with.
        status = f" ({error.http_status})" if error.http_status else ""
        raise OutcomeUnknownError(f"{type(error).__name__}{status}") from None


def _charge(intent: Mapping[str, Any]) -> Charge:
    status, error = intent["status"], intent.get("last_payment_error") or {}
    code = str(error.get("decline_code") or error.get("code") or status)
    if status == "succeeded":
        outcome, code = Outcome.SUCCEEDED, ""
    elif status in _PENDING:
        outcome, code = Outcome.PENDING, ""
    elif status == "requires_action" or (status != "canceled" and code in _ACTION):
        outcome = Outcome.REQUIRES_ACTION
    else:
        outcome, code = Outcome.FAILED, CLOSED if status == "canceled" else code
    is_taken = outcome is Outcome.SUCCEEDED
    return Charge(
        outcome,
        reference=str(intent["id"]),
        key=str((intent.get("metadata") or {}).get(OUR_KEY, "")),
        amount=_dollars(intent["amount_received" if is_taken else "amount"]),
        currency=str(intent["currency"]).upper(),
        at=_time(intent.get("created")),
        code=code[:60],
        reason=_line(error.get("message")),
    )


def _refund(row: Mapping[str, Any]) -> Returned:
    states = {"succeeded": Return.RETURNED, "failed": Return.UNDONE, "canceled": Return.UNDONE}
    return Returned(
        reference=str(row["id"]),
        amount=_dollars(row["amount"]),
        state=states.get(row["status"], Return.PENDING),
        key=str((row.get("metadata") or {}).get(OUR_KEY, "")),
        currency=str(row["currency"]).upper(),
        at=_time(row.get("created")),
    )


def _dispute(row: Mapping[str, Any]) -> Returned:
    # The money is gone from the day a dispute is opened, and comes back when it is won.
    return Returned(
        reference=str(row["id"]),
        amount=_dollars(row["amount"]),
        state=Return.UNDONE if row["status"] == "won" else Return.RETURNED,
        is_dispute=True,
        currency=str(row["currency"]).upper(),
        at=_time(row.get("created")),
    )


def _subject(kind: str, data: Mapping[str, Any]) -> tuple[Subject, str]:
    thing = data["object"]
    family = kind.partition(".")[0]
    if family == "payment_intent":
        return Subject.CHARGE, str(thing["id"])
    if family in {"charge", "refund"} and thing.get("payment_intent"):
        return Subject.CHARGE, str(thing["payment_intent"])
    if family in {"checkout", "setup_intent", "payment_method", "customer"}:
        before = (data.get("previous_attributes") or {}).get("customer")
        named = thing["id"] if thing.get("object") == "customer" else thing.get("customer")
        if named or before:
            return Subject.CUSTOMER, str(named or before)
    return Subject.NOTHING, ""


def _cents(amount: Decimal) -> int:
    return int(amount.scaleb(2))


def _dollars(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _time(seconds: Any) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def _line(text: Any) -> str:
    return _SECRET.sub("…", " ".join(str(text or "").split()))[:200]
