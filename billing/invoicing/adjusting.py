"""Adjustments: proposed, decided by a person, and then on the tenant's next invoice, once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.invoicing import conceding, service_credits
from billing.invoicing.errors import ApprovalError, InvoicingError
from billing.invoicing.locks import lock_cursor
from billing.invoicing.retrying import retried
from billing.invoicing.service_credits import Fees
from billing.invoicing.sla import Window
from billing.invoicing.terms_port import book
from billing.invoicing.waiting_again import copies_of, first_of
from billing.models import Adjustment, Concession, Invoice, InvoiceCursor
from billing.rating.money import ZERO, rounded
from tenants.models import Tenant

log = structlog.get_logger(__name__)
State, Source = Adjustment.State, Adjustment.Source
Kind = Concession.Kind


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
    windows: Sequence[Sequence[str]] = (),
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
                windows=list(windows),
                reason=reason[:300],
                proposed_by=by,
            )
    except IntegrityError:
        known = Adjustment.objects.filter(tenant=tenant, origin=origin).first()
        if origin is None or known is None:
            raise
        return known


@retried
@transaction.atomic
def propose_sla_credit(
    tenant: Tenant, windows: Iterable[Window], *, reason: str, origin: str, what: str = ""
) -> list[Adjustment]:
    """Propose a credit for half-open `windows` in which the tenant was not served or served stale
    data: the fee of that time, `RELAY_SLA_FACTOR` times. All credits of a period together come to
    the fee of the period after discounts at most, and count no second twice; so one may come to
    nothing while others wait, and to more when they are rejected.

    A credit for each billing period, mostly one; none where the time is worth nothing: no terms, a
    trial, no fee or no customer then. Called by whoever reads the gap ledger; `origin` names what
    it found, so calling again is harmless. `what` is printed where the time is not one stretch.
    """
    cursor = lock_cursor(tenant.pk)
    terms = book().load([tenant])
    found = []
    for n, (period, parts) in enumerate(service_credits.by_period(tenant, windows, terms)):
        fees = service_credits.fees_of(tenant, period, terms, cursor)
        amount = service_credits.value(parts, fees)
        if not amount:
            continue
        start, end = parts[0][0], parts[-1][1]
        proposed = propose(
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
            origin=f"{origin[:70]}+{n}" if n else origin[:80],
            original=(period.start, period.end),
            windows=service_credits.kept(parts),
        )
        found.append(proposed)
        if proposed.state == State.PROPOSED:
            _reprice(tenant.pk, fees, among=proposed)
    return found


def approved_of(tenant: Tenant, cursor: InvoiceCursor) -> list[Adjustment]:
    """What is approved and on no invoice yet, in a transaction that has locked the cursor. Service
    credits are priced again: terms and discounts may be others than when they were approved."""
    rows = Adjustment.objects.filter(tenant=tenant, state=State.APPROVED).order_by("pk")
    found = list(rows)
    starts = {row.original_start for row in found if row.windows and row.original_start}
    if not starts:
        return found
    terms = book().load([tenant])
    for start in sorted(starts):
        period = terms.period_of(tenant, start)
        if period is not None:
            _reprice(tenant.pk, service_credits.fees_of(tenant, period, terms, cursor))
    return list(rows.all())


def _reprice(tenant_id: int, fees: Fees, *, among: Adjustment | None = None) -> None:
    """Price all service credits of a period, `among` them one in hand, whose state counts."""
    rows = service_credits.lock_credits(tenant_id, fees.period.start)
    before = {row.pk: row.amount for row in rows if among is None or row.pk != among.pk}
    credits = [row for row in rows if row.pk in before]
    if among is not None and among.state != State.REJECTED:
        credits.append(among)
    rests = service_credits.price(credits, fees, anew=among)
    if among is not None and among.state == State.APPROVED and not among.amount:
        raise InvoicingError(
            f"{among.name}: other credits of the period cover its time or use up the fee: reject it"
        )
    for row in credits:
        if row is not among and row.amount != before[row.pk]:
            if row.state == State.APPROVED and not row.amount:
                # Other terms hold by now. What is approved for nothing waits again.
                row.state, row.decided_by, row.decided_at = State.PROPOSED, "", None
                conceding.take_back(Kind.ADJUSTMENT, _subject(row))
            elif row.state == State.APPROVED:
                conceding.give_otherwise(Kind.ADJUSTMENT, _subject(row), -row.amount)
            row.save(update_fields=["amount", "state", "decided_by", "decided_at"])
        elif row is among:
            row.save()
    for row, rest in rests:
        propose(
            row.tenant,
            -rest,
            code=row.code,
            name=row.name,
            source=Source.SLA_GAP,
            reason=f"worth more than the {-row.amount:.2f} approved; {row.reason}",
            by=row.proposed_by,
            origin=service_credits.origin_of_rest(row, rest),
            original=(fees.period.start, fees.period.end),
            windows=row.windows,
        )


@retried
@transaction.atomic
def decide(adjustment: Adjustment, *, approve: bool, by: str) -> Adjustment:
    """Approve or reject. A credit with which its operator would give away more than
    `RELAY_CREDIT_LIMIT` alone is approved by somebody else. Service credits of the same period are
    priced again. Raises ApprovalError for it, InvoicingError for one that is decided otherwise, or
    billed, or comes to nothing."""
    cursor = lock_cursor(adjustment.tenant_id)
    locked = Adjustment.objects.select_for_update().get(pk=adjustment.pk)
    wanted = State.APPROVED if approve else State.REJECTED
    if locked.state == wanted:
        return locked
    if locked.state == State.BILLED or (locked.state == State.REJECTED and approve):
        raise InvoicingError(f"{locked} is {locked.get_state_display()}")
    locked.state, locked.decided_by, locked.decided_at = wanted, by, timezone.now()
    if not approve and locked.windows:
        _reject_rests(locked, by=by)
    if locked.windows and locked.original_start is not None:
        terms = book().load([locked.tenant])
        period = terms.period_of(locked.tenant, locked.original_start)
        if period is not None:
            fees = service_credits.fees_of(locked.tenant, period, terms, cursor)
            _reprice(locked.tenant_id, fees, among=locked)
    # After it is priced: what is given is what it comes to.
    if not approve:
        conceding.take_back(Kind.ADJUSTMENT, _subject(locked))
    elif locked.amount < 0:
        _give(locked, by=by)
    locked.save()
    return locked


def _reject_rests(row: Adjustment, *, by: str) -> None:
    """The time is not credited, so neither is what it was worth beyond what was approved."""
    for rest in service_credits.rests_of(row).filter(state__in=[State.PROPOSED, State.APPROVED]):
        conceding.take_back(Kind.ADJUSTMENT, _subject(rest))
        rest.state, rest.decided_by, rest.decided_at = State.REJECTED, by, timezone.now()
        rest.save(update_fields=["state", "decided_by", "decided_at"])


def _give(row: Adjustment, *, by: str) -> None:
    """Note what is given by a credit, or raise ApprovalError. A copy gives what was given before,
    and its invoice, which is void, took back: nobody has to look at that twice, but at what it is
    more."""
    subject = _subject(row)
    given = conceding.given_by(Kind.ADJUSTMENT, subject)
    more = -row.amount - (given or ZERO)
    verdict = conceding.judge(row.tenant_id, more, by=row.proposed_by)
    if more > 0 and by == row.proposed_by and verdict.needs_second:
        raise ApprovalError(verdict.told(by, conceding.place_of(Kind.ADJUSTMENT)))
    if given is not None:
        conceding.give_otherwise(Kind.ADJUSTMENT, subject, -row.amount)
        return
    conceding.note_given(
        row.tenant_id,
        Kind.ADJUSTMENT,
        -row.amount,
        by=row.proposed_by,
        approved_by="" if by == row.proposed_by else by,
        subject=subject,
        reason=row.name,
    )


def _subject(row: Adjustment) -> str:
    return f"adjustment {first_of(row).pk}"


def approve_again(invoice: Invoice, *, by: str) -> None:
    """Approve what waits of the adjustments that a void invoice billed, for the one in its place.
    What cannot be approved (it comes to nothing by now) waits on."""
    for copy in copies_of(invoice).filter(state=State.PROPOSED):
        try:
            decide(copy, approve=True, by=by)
        except InvoicingError as error:
            log.info("adjustment_waits_on", adjustment=copy.pk, why=str(error))
