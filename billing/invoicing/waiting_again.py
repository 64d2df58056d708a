"""What a void invoice billed of adjustments waits again."""

from __future__ import annotations

from billing.models import Adjustment, Invoice

State = Adjustment.State


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
