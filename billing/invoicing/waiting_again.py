"""What a void invoice billed of adjustments waits again.

Copies of them, because billed ones never change; proposed, because mostly the invoice was wrong,
and what was wrong on it must not come back by itself. *Draft again* approves them.
"""

from __future__ import annotations

from django.db.models import QuerySet

from billing.models import Adjustment, Invoice

State = Adjustment.State
_ORIGIN = "void:"


def wait_again(invoice: Invoice) -> int:
    """What a void invoice billed is proposed for another. Answers how much is new; each is copied
    once."""
    made = 0
    for billed in Adjustment.objects.filter(billed_on=invoice).order_by("pk"):
        origin = f"{_ORIGIN}{billed.pk}"
        if not Adjustment.objects.filter(tenant=billed.tenant_id, origin=origin).exists():
            _copy(billed, origin, f"{invoice} is void")
            made += 1
    return made


def copies_of(invoice: Invoice) -> QuerySet[Adjustment]:
    """What stands for the adjustments that a void invoice billed, in their order."""
    billed = Adjustment.objects.filter(billed_on=invoice).order_by().values_list("pk", flat=True)
    origins = [f"{_ORIGIN}{pk}" for pk in billed]
    return Adjustment.objects.filter(tenant=invoice.tenant_id, origin__in=origins).order_by("pk")


def first_of(adjustment: Adjustment) -> Adjustment:
    """What was approved first: of a copy (of a copy) that of which it is one."""
    rows = Adjustment.objects.filter(tenant=adjustment.tenant_id, state=State.BILLED)
    while (origin := adjustment.origin or "").startswith(_ORIGIN):
        found = rows.filter(pk=int(origin.removeprefix(_ORIGIN))).first()
        if found is None:
            break
        adjustment = found
    return adjustment


def propose_again(invoice: Invoice) -> None:
    """What another invoice in place of a void one would have billed is undecided again."""
    approved = copies_of(invoice).filter(state=State.APPROVED)
    approved.update(state=State.PROPOSED, decided_by="", decided_at=None)


def _copy(billed: Adjustment, origin: str, reason: str) -> None:
    said = {field.attname: getattr(billed, field.attname) for field in Adjustment._meta.fields}
    dropped = {"id", "origin", "reason", "state", "billed_on_id", "decided_by", "decided_at"}
    Adjustment.objects.create(
        **{name: said[name] for name in said.keys() - dropped},
        origin=origin,
        reason=f"{reason}; {billed.reason}".rstrip("; ")[:300],
    )
