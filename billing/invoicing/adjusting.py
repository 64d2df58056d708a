"""Adjustments: proposed, decided by a person, and then on the tenant's next invoice, once."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.invoicing.errors import InvoicingError
from billing.invoicing.terms_port import book
from billing.models import Adjustment, Invoice
from billing.rating.money import quotient, rounded
from billing.rating.periods import seconds_between
from tenants.models import Tenant

State, Source = Adjustment.State, Adjustment.Source


def propose(
    tenant: Tenant,
    amount: Decimal,
    *,
    code: str,
    name: str,
    source: str = Source.MANUAL,
    reason: str = "",
    by: str = "",
    origin: str | None = None,
    original: tuple[datetime, datetime] | None = None,
    is_taxable: bool = True,
) -> Adjustment:
    """A charge (above 0) or credit, to be decided. Of one `origin` there is one: the first is
    answered again. Raises InvoicingError for an amount that is 0 or not in whole cents."""
    if not amount.is_finite() or not amount or amount != rounded(amount):
        raise InvoicingError(f"{amount} is no amount: not 0, in whole cents")
    start, end = original or (None, None)
    try:
        with transaction.atomic():
            return Adjustment.objects.create(
                tenant=tenant,
                source=Source(source),
                origin=origin,
                code=code,
                name=name[:200],
                amount=amount,
                is_taxable=is_taxable,
                original_start=start,
                original_end=end,
                reason=reason[:300],
                proposed_by=by,
            )
    except IntegrityError:
        known = Adjustment.objects.filter(tenant=tenant, origin=origin).first()
        if origin is None or known is None:
            raise
        return known


def propose_sla_credit(
    tenant: Tenant,
    start: datetime,
    end: datetime,
    *,
    reason: str,
    origin: str,
    what: str = "",
) -> Adjustment | None:
    """Propose a credit for `[start, end)`, in which the tenant was not served or served stale data:
    the fee of that time, `RELAY_SLA_FACTOR` times, at most the fee of the period. None where it
    comes to nothing: no terms, a trial, no fee.

    Called by whoever reads the gap ledger; `origin` names what it found, so calling again is
    harmless. `what` is printed where the time is not one stretch.
    """
    terms = book().load([tenant])
    period = terms.period_of(tenant, start)
    if period is None:
        return None
    segments = terms.segments_of(tenant, period)
    held = next((s for s in segments if s.start <= start < s.end), None)
    if held is None or held.is_trial:
        return None
    fee = held.plan.fee
    share = fee * seconds_between(start, end) * settings.RELAY_SLA_FACTOR
    amount = rounded(min(fee, quotient(share, period.full_s)))
    if not amount:
        return None
    return propose(
        tenant,
        -amount,
        code="sla-credit",
        name=(
            f"Service credit, {start:%Y-%m-%d %H:%M} UTC: {what}"
            if what
            else f"Service credit for {start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC"
        ),
        source=Source.SLA_GAP,
        reason=reason,
        origin=origin[:80],
        original=(period.start, period.end),
    )


@transaction.atomic
def decide(adjustment: Adjustment, *, approve: bool, by: str) -> Adjustment:
    """Approve or reject. A credit above `RELAY_CREDIT_LIMIT` is approved by somebody else than who
    proposed it. Raises InvoicingError for one that is decided otherwise, or billed."""
    locked = Adjustment.objects.select_for_update().get(pk=adjustment.pk)
    wanted = State.APPROVED if approve else State.REJECTED
    if locked.state == wanted:
        return locked
    if locked.state == State.BILLED or (locked.state == State.REJECTED and approve):
        raise InvoicingError(f"{locked} is {locked.get_state_display()}")
    if approve and -locked.amount > settings.RELAY_CREDIT_LIMIT and by == locked.proposed_by:
        raise InvoicingError(
            f"a credit above {settings.RELAY_CREDIT_LIMIT} is approved by somebody else than {by}"
        )
    locked.state, locked.decided_by, locked.decided_at = wanted, by, timezone.now()
    locked.save()
    return locked


def wait_again(invoice: Invoice) -> int:
    """What a void invoice billed waits for the next one: copies of its adjustments, approved as
    they were, because billed ones never change. Answers how many are new; each is copied once."""
    made = 0
    for billed in Adjustment.objects.filter(billed_on=invoice).order_by("pk"):
        origin = f"void:{billed.pk}"
        if not Adjustment.objects.filter(tenant=billed.tenant_id, origin=origin).exists():
            _copy(billed, origin, f"{invoice} is void")
            made += 1
    return made


def _copy(billed: Adjustment, origin: str, reason: str) -> None:
    said = {field.attname: getattr(billed, field.attname) for field in Adjustment._meta.fields}
    kept = said.keys() - {"id", "origin", "reason", "state", "billed_on_id"}
    Adjustment.objects.create(
        **{name: said[name] for name in kept},
        origin=origin,
        reason=f"{reason}; {billed.reason}".rstrip("; ")[:300],
        state=State.APPROVED,
    )
