"""How many living keys a tenant may have: a loop that makes keys must not fill what every edge
looks up, nor a page that a person has to read."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from tenants.models import APIKey, Tenant

#: The code of the ValidationError.
TOO_MANY = "too_many_keys"


def lock(tenant_id: int) -> None:
    """Let nobody else add a key of this tenant meanwhile. Before any lock of a key."""
    Tenant.objects.select_for_update().order_by().values_list("pk").get(pk=tenant_id)


def refuse_one_more(tenant_id: int, *, now: datetime, is_successor: bool = False) -> None:
    """Raises ValidationError where a tenant has as many living keys as it may have. Old keys beside
    their successors do not count, but for a successor beside its old one, of which there may be as
    many again: else rotations with an overlap were a way around, or a full tenant could not rotate
    a stolen key. (Without an overlap there is never one more.)"""
    living = APIKey.objects.for_tenant(tenant_id).of_customers().living(now)
    most = settings.RELAY_MAX_KEYS
    if is_successor:
        if living.count() >= 2 * most:
            raise ValidationError(
                _(
                    "At most %(most)s keys work at one time, rotated ones among them, and as many "
                    "do: let some end, or revoke them."
                )
                % {"most": 2 * most},
                code=TOO_MANY,
            )
    elif living.filter(rotated_at=None).count() >= most:
        raise ValidationError(
            _(
                "A tenant has at most %(most)s keys that work, and this one has as many: revoke "
                "one that nobody needs."
            )
            % {"most": most},
            code=TOO_MANY,
        )
