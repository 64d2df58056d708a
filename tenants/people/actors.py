"""Who acts on a tenant's people, and whether they may."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _

from tenants.models import Membership, Tenant
from tenants.people.roles import May, may, may_manage


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody of the company that runs the relay, who may do everything; `user` is None for a
    command."""

    user: User | None = None


#: Who acts: a member within its role, or an operator.
Actor = Membership | Operator


def lock(tenant: Tenant | int) -> Tenant:
    """The tenant as it is now, its row held until the transaction ends."""
    pk = tenant if isinstance(tenant, int) else tenant.pk
    return Tenant.objects.select_for_update().get(pk=pk)


def allowed(
    by: Actor, tenant: Tenant, *, act: May | None = None, may_manage_role: str | None = None
) -> Actor:
    """`by` as it is now. Raises PermissionDenied unless it may `act`, or manage people in that
    role, in this very tenant."""
    if isinstance(by, Operator):
        return by
    now = Membership.objects.for_tenant(tenant).select_related("user").filter(pk=by.pk).first()
    if now is None or not now.user.is_active:
        raise PermissionDenied(_("Only a member may do that."))
    if act is not None and not may(now.role, act):
        raise PermissionDenied(
            _("As %(role)s you may not %(act)s.") % {"role": _(now.role), "act": _(act)}
        )
    if may_manage_role is not None and not may_manage(now.role, of=may_manage_role):
        raise PermissionDenied(
            _("As %(role)s you may not manage the role %(managed)s.")
            % {"role": _(now.role), "managed": may_manage_role and _(may_manage_role)}
        )
    return now
