"""When a tenant was a customer. Our own and demo tenants are metered and never invoiced, whatever
they become later; a customer owes what it used as one, whatever it becomes.

**Whose a unit is.** Each change of kind (`KindChange`) has its place in the ledger: the hour it
fell in, and the position at which the usage account stood, under its lock. A unit's place is its
hour and its position, and it was used as what the last change before that place made of the tenant.
So late usage is of its hour, and within the hour of a change the order of posting decides.

**What is shown.** Previews, running costs and spend caps are of the same time (`customs_of`): who
is metered only owes nothing, is shown nothing else, and no spend cap refuses it anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing.catalogue.timeline import Stretches
from billing.invoicing.locks import lock_account, lock_cursor
from billing.models import AppliedTerms, Invoice, InvoiceCursor, KindChange
from billing.rating.periods import HOUR, full_hour
from tenants.models import Tenant

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


class Change(NamedTuple):
    """From here on it is a customer, or no longer."""

    at: datetime
    position: int
    is_customer: bool

    @property
    def hour(self) -> datetime:
        """The hour it fell in."""
        return full_hour(self.at)


class Posted(NamedTuple):
    """The entries of an hour at positions `(after, upto]`; None: all that follow."""

    hour: datetime
    after: int
    upto: int | None


@dataclass(frozen=True, slots=True)
class Custom:
    """When a tenant was a customer: `was_one` before the first of `changes`, which take turns."""

    was_one: bool = True
    changes: tuple[Change, ...] = ()

    @property
    def is_never(self) -> bool:
        """Whether it never was one."""
        return not self.was_one and not self.changes

    @property
    def is_one(self) -> bool:
        """Whether it is one now."""
        return self.changes[-1].is_customer if self.changes else self.was_one

    @property
    def stretches(self) -> Stretches | None:
        """The time it was one; None: always."""
        if self.was_one and not self.changes:
            return None
        edges = [change.at for change in self.changes]
        if self.was_one:
            edges.insert(0, _BEGINNING)
        ends = [*edges[1::2], None][: len(edges[::2])]
        return list(zip(edges[::2], ends, strict=True))

    def entries(self) -> Q:
        """The ledger entries of an account that were used as one."""
        if not self.changes:
            return Q() if self.was_one else Q(pk__in=[])
        found = Q(pk__in=[])
        turns = [Change(_BEGINNING, 0, self.was_one), *self.changes]
        for turn, following in pairwise([*turns, None]):
            if turn is None or not turn.is_customer:
                continue
            within = Q()
            if turn.at > _BEGINNING:
                within &= Q(hour__gt=turn.hour) | Q(hour=turn.hour, position__gt=turn.position)
            if following is not None:
                end, last = following.hour, following.position
                within &= Q(hour__lt=end) | Q(hour=end, position__lte=last)
            found |= within
        return found

    def whole(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The half-open ranges of hours within `[start, end)` that it was one all the time."""
        is_customer, begun = self.was_one, start
        for change in self.changes:
            if is_customer and begun < min(change.hour, end):
                yield begun, min(change.hour, end)
            is_customer, begun = change.is_customer, max(start, change.hour + HOUR)
        if is_customer and begun < end:
            yield begun, end

    def split(self, start: datetime, end: datetime) -> Iterator[Posted]:
        """Of the hours within `[start, end)` in which that changed, what was posted as one."""
        is_customer, last = self.was_one, Change(_BEGINNING, 0, is_customer=False)
        for change in self.changes:
            if last.hour != change.hour:
                yield from self._rest(last, start, end)
                last = last._replace(position=0)
            if is_customer and start <= change.hour < end:
                yield Posted(change.hour, last.position, change.position)
            is_customer, last = change.is_customer, change
        yield from self._rest(last, start, end)

    @staticmethod
    def _rest(last: Change, start: datetime, end: datetime) -> Iterator[Posted]:
        if last.is_customer and start <= last.hour < end:
            yield Posted(last.hour, last.position, None)


ALWAYS, NEVER = Custom(), Custom(was_one=False)


def is_customer(kind: str) -> bool:
    """Whether tenants of a kind get invoices: our own and demos are metered only."""
    return kind == Tenant.Kind.EXTERNAL


def custom_of(tenant: Tenant, cursor: InvoiceCursor) -> Custom:
    """When a tenant was a customer, as exact as the cursor is locked. `tenant` may be a moment
    old."""
    if not cursor.kind_changes:
        return ALWAYS if is_customer(tenant.kind) else NEVER
    return custom_by_rows(tenant.pk)


def customs_of(tenants: Iterable[Tenant]) -> dict[int, Custom]:
    """When tenants were customers, as it stands now: for what is shown or allowed, and not booked.
    One statement, and no lock."""
    found = list(tenants)
    rows: dict[int, list[KindChange]] = {tenant.pk: [] for tenant in found}
    for row in KindChange.objects.filter(tenant__in=list(rows)).order_by("tenant", "number"):
        rows[row.tenant_id].append(row)
    return {
        tenant.pk: custom_from(rows[tenant.pk])
        if rows[tenant.pk] or is_customer(tenant.kind)
        else NEVER
        for tenant in found
    }


def custom_by_rows(tenant_id: int) -> Custom:
    """The same by the changes that were noted alone; always, where none was."""
    return custom_from(list(KindChange.objects.filter(tenant=tenant_id).order_by("number")))


def custom_from(rows: list[KindChange]) -> Custom:
    """The same of the rows of one tenant, by number."""
    if not rows:
        return ALWAYS
    changes = [
        Change(row.at, row.position, is_customer(row.after))
        for row in rows
        if is_customer(row.after) != is_customer(row.before)
    ]
    return Custom(is_customer(rows[0].before), tuple(changes))


@transaction.atomic
def become(tenant_id: int, kind: str, now: datetime | None = None) -> None:
    """Note that a tenant is of another kind from now on, before its row is saved. The place is
    exact: meanwhile nothing is posted and nothing invoiced."""
    cursor, account = lock_cursor(tenant_id), lock_account(tenant_id)
    last = KindChange.objects.filter(tenant=tenant_id).order_by("number").last()
    before = last.after if last else Tenant.objects.values_list("kind", flat=True).get(pk=tenant_id)
    if before == kind:
        return
    at = (now or timezone.now()).replace(microsecond=0)
    if last is None and not is_customer(before):
        last = _note_earlier(cursor, before)
    if last is not None:
        at = max(at, last.at)  # another host's clock may have been ahead
    cursor.kind_changes += 1
    if is_customer(kind):
        _begin(cursor, full_hour(at))
    cursor.save()
    KindChange.objects.create(
        tenant_id=tenant_id,
        number=cursor.kind_changes,
        at=at,
        position=account.last_position,
        before=before,
        after=kind,
    )
    # Under the tenant's lock, which whoever writes allowances holds: no turn that began before this
    # change forgets that what it wrote is to be written again.
    Tenant.objects.select_for_update().order_by().get(pk=tenant_id)
    AppliedTerms.objects.filter(tenant=tenant_id).update(next_change_at=at)


def _note_earlier(cursor: InvoiceCursor, before: str) -> KindChange | None:
    """Who has invoices and is no customer was one, and became what it is when that was not noted
    yet. It is taken to have been a customer until where its last invoice ends: what it used from
    then on is on none."""
    rows = Invoice.objects.finalized().filter(tenant=cursor.tenant_id, kind=Invoice.Kind.REGULAR)
    invoice = rows.order_by("-period_end", "-usage_until").first()
    if invoice is None or invoice.usage_until is None:
        return None
    at = invoice.period_end
    cursor.kind_changes += 1
    return KindChange.objects.create(
        tenant_id=cursor.tenant_id,
        number=cursor.kind_changes,
        at=at,
        # Of the hour it ends within, that invoice has what was posted before it, or nothing.
        position=invoice.ledger_position if invoice.usage_until > full_hour(at) else 0,
        before=Tenant.Kind.EXTERNAL,
        after=before,
    )


def _begin(cursor: InvoiceCursor, hour: datetime) -> None:
    """The hour in which it becomes a customer may be behind the cursor, where a period ended within
    it: it is the next invoice's, unless one has it already."""
    if cursor.usage_until is None or cursor.usage_until <= hour:
        return
    has_it = Invoice.objects.finalized().filter(
        tenant=cursor.tenant_id, kind=Invoice.Kind.REGULAR, usage_until__gt=hour
    )
    if not has_it.exists():
        cursor.usage_until = hour
