"""An operator looks at a tenant's pages as its people see them: for half an hour, for a reason, and
without a hand to change anything. Both sides' audits name it."""

from __future__ import annotations

from datetime import datetime, timedelta

from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone

from tenants.models import CustomerView, Membership, Tenant, TenantLogEntry
from tenants.people.roles import Role

PERMISSION = "tenants.view_as_customer"
#: In an operator's session: the id of the view that it began.
SESSION = "dashboard.customer_view"
LIFE = timedelta(minutes=30)
MAX_REASON_CHARS = 200


@transaction.atomic
def begin_view(
    tenant: Tenant, *, operator: User, reason: str, now: datetime | None = None
) -> CustomerView:
    """Begin to look. Raises PermissionDenied for who may not, ValidationError without a reason."""
    at = now or timezone.now()
    if not may_view(operator):
        raise PermissionDenied("That needs the permission to look at a customer's pages.")
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON_CHARS:
        raise ValidationError(f"reason: say why, in at most {MAX_REASON_CHARS} characters.")
    view = CustomerView.objects.create(
        tenant=tenant, operator=operator, reason=text, began_at=at, ends_at=at + LIFE
    )
    entry = LogEntry.objects.log_create(
        tenant,
        action=LogEntry.Action.ACCESS,
        actor=operator,
        changes={"looked at, until": ["", f"{view.ends_at:%Y-%m-%d %H:%M} UTC"]},
        additional_data={"reason": text, "view": view.pk},
    )
    if entry is not None:
        TenantLogEntry.objects.create(tenant=tenant, entry=entry)
    return view


def open_view(view_id: object, operator: User, slug: str) -> CustomerView | None:
    """The view of a tenant that an operator began and that has not ended; asked at every page, so
    that a lost permission ends it too."""
    if not isinstance(view_id, int) or not may_view(operator):
        return None
    view = (
        CustomerView.objects.select_related("tenant", "operator")
        .filter(pk=view_id, operator=operator, tenant__slug=slug)
        .first()
    )
    return view if view is not None and view.is_open(timezone.now()) else None


def end_view(view_id: object, operator: User) -> CustomerView | None:
    """Look no more."""
    if not isinstance(view_id, int):
        return None
    view = CustomerView.objects.filter(pk=view_id, operator=operator).first()
    if view is not None and view.ended_at is None:
        view.ended_at = min(timezone.now(), view.ends_at)
        view.save(update_fields=["ended_at"])
    return view


def may_view(operator: User) -> bool:
    """Whether somebody may look at customers' pages."""
    return operator.is_active and operator.is_staff and operator.has_perm(PERMISSION)


def as_member(view: CustomerView) -> Membership:
    """What stands for a membership while one looks: never saved, and so allowed by no service to
    write anything."""
    return Membership(user=view.operator, tenant=view.tenant, role=str(Role.ADMIN))
