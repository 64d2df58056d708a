"""Guard rails of keys: set them, and switch a key off for the exchange at once."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from tenants.admission import changes
from tenants.models import APIKey, ExchangeRails, Tenant
from tenants.selectors import family_of

FIELDS = (
    "is_killed",
    "is_cancel_only",
    "signers",
    "kinds",
    "coins",
    "max_order_usd",
    "max_minute_usd",
)


@transaction.atomic
def set_rails(key: APIKey, **values: Any) -> ExchangeRails:
    """Set some of `FIELDS` for all keys of a chain of rotations; the others stay. Raises
    ValidationError."""
    if unknown := set(values) - set(FIELDS):
        raise ValidationError(_("%(name)r is no guard rail.") % {"name": min(unknown)[:40]})
    # The first key's row is the lock: two at once would both find no rails and make them.
    first = APIKey.objects.select_for_update().get(pk=key.family_id)
    rails = ExchangeRails.objects.filter(key=first).first() or ExchangeRails(key=first)
    for name, value in values.items():
        setattr(rails, name, _written(name, value))
    rails.full_clean(validate_unique=False)
    rails.save()
    changes.announce_on_commit(list(family_of(key).values_list("digest", flat=True)))
    return rails


def kill(key: APIKey) -> ExchangeRails:
    """Send nothing more to the exchange for this key and its rotations, from within a second on;
    rails are made where there are none. Again changes nothing."""
    return set_rails(key, is_killed=True)


def revive(key: APIKey) -> ExchangeRails:
    """Send again what the other rails let pass."""
    return set_rails(key, is_killed=False)


@transaction.atomic
def kill_tenant(tenant: Tenant) -> int:
    """Kill every key of a tenant that is not revoked; how many chains of rotations that are."""
    return _each_family(tenant, is_killed=True)


@transaction.atomic
def revive_tenant(tenant: Tenant) -> int:
    """Revive every key of a tenant that is killed; how many chains of rotations that are."""
    return _each_family(tenant, is_killed=False)


def is_killed(key: APIKey) -> bool:
    """Whether the kill switch of a key and its rotations is on."""
    return ExchangeRails.objects.filter(key=key.family_id, is_killed=True).exists()


def _each_family(tenant: Tenant, *, is_killed: bool) -> int:
    keys = APIKey.objects.filter(tenant=tenant, revoked_at=None).order_by("pk")
    families = {key.family_id: key for key in keys}
    killed = set(
        ExchangeRails.objects.filter(key__in=families, is_killed=True).values_list("key", flat=True)
    )
    chosen = [key for family, key in families.items() if (family in killed) is not is_killed]
    for key in chosen:
        set_rails(key, is_killed=is_killed)
    return len(chosen)


def _written(name: str, value: Any) -> Any:
    """As the doors compare it: addresses in lower case, each entry once."""
    if name in ("signers", "kinds", "coins") and isinstance(value, list):
        texts = [text.strip() if isinstance(text, str) else text for text in value]
        if name == "signers":
            texts = [text.lower() if isinstance(text, str) else text for text in texts]
        try:
            return list(dict.fromkeys(texts))
        except TypeError:
            return texts  # the validators say so
    return value
