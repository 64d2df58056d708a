"""A tenant's API keys: seen, made, changed, rotated, revoked, and their guard rails.

Whoever acts is a `Holder`: a key over the API, which can hand out nothing it has not (`handing.py`)
and cannot make itself more than it is; or a member of the tenant, whose role the caller has asked
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from gateway.account import handing
from gateway.account.errors import BadValue, Conflict, NotAllowed, NotFound
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from tenants import guarding, services
from tenants.admission.principal import DEFAULT_SCOPES, Principal, Scope
from tenants.key_cap import TOO_MANY
from tenants.models import KEY_RIGHTS, APIKey, ExchangeRails, Tenant
from tenants.people.roles import May, may
from tenants.services import IssuedKey

DEFAULT_OVERLAP = timedelta(hours=24)
#: Rails that stop more when they are set.
_STOPPING = frozenset({"is_killed", "is_cancel_only"})
#: What lets a key trade, or lift the rails of another.
_PAST_RAILS = frozenset({str(Scope.EXCHANGE), str(Scope.ACCOUNT)})
NO_RAILS = ExchangeRails()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who acts. `scopes` are what it may give; `key_id` and `family_id` are of the acting key, 0
    for a person, whom no key's limits hold."""

    scopes: frozenset[str]
    family_id: int = 0
    key_id: int = 0


def member(role: str) -> Holder:
    """A member of the tenant who may manage keys. No key shows or changes more of the account than
    the role of who made it."""
    scopes = {str(scope) for scope in Scope}
    if not may(role, May.CHANGE_PLAN):
        scopes.discard(Scope.ACCOUNT)
    if not may(role, May.SEE_INVOICES):
        scopes.discard(Scope.ACCOUNT_READ)
    return Holder(frozenset(scopes))


def holder_of(principal: Principal) -> Holder:
    """The key that acts."""
    family_id = principal.family_id or principal.key_id
    return Holder(principal.scopes, family_id, principal.key_id)


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key and its guard rails; `state` is `active`, `rotated` (its end is near), `expired` or
    `revoked`."""

    key: APIKey
    rails: ExchangeRails
    state: str


def key_page(
    tenant: Tenant,
    *,
    is_active: bool | None = None,
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
    now: datetime | None = None,
) -> Page[ShownKey]:
    """Keys, the newest first; those that open something (`is_active`), or not. Two statements.
    Raises BadValue and BadCursor."""
    at = now or timezone.now()
    rows = APIKey.objects.for_tenant(tenant).of_customers()
    if is_active is not None:
        # Of a suspended tenant none opens anything; its own state is what is asked for here.
        usable = APIKey.objects.usable(at) if not tenant.is_suspended else APIKey.objects.none()
        chosen = rows.filter(pk__in=usable.values("pk"))
        rows = chosen if is_active else rows.exclude(pk__in=usable.values("pk"))
    order = ("-created_at", "-pk")
    found = page(rows, order, of="keys", tenant_id=tenant.pk, cursor=cursor, limit=limit)
    rails = _rails_of(key.family_id for key in found.rows)
    shown = [_shown(key, rails.get(key.family_id), at) for key in found.rows]
    return Page(shown, found.next_cursor)


def key(tenant: Tenant, key_id: int) -> ShownKey:
    """One. Raises NotFound."""
    found = _find(tenant, key_id)
    return _shown(found, _rails_of([found.family_id]).get(found.family_id), timezone.now())


def issue(tenant: Tenant, *, by: Holder, name: str, **rights: Any) -> IssuedKey:
    """A new key; `rights` are `environment` and `KEY_RIGHTS`; by default with those of the usual
    scopes that who acts has, and its limits. Raises NotAllowed for what who acts has not itself,
    BadValue for what no key can have, and Conflict where the tenant has as many as it may have."""
    held = [str(s) for s in DEFAULT_SCOPES if s in by.scopes]
    _refuse_scopes(by, rights.setdefault("scopes", held))
    if (own := _own(tenant, by)) is not None:
        rights = handing.with_own(own, rights)
        _refuse_wider(own, rights)
    try:
        return services.issue_key(tenant=tenant, name=name, **rights)
    except ValidationError as error:
        raise _refused(error) from None


def update(tenant: Tenant, key_id: int, *, by: Holder, **rights: Any) -> ShownKey:
    """Change some of `KEY_RIGHTS`. Raises NotFound, NotAllowed, BadValue, and Conflict when
    somebody else changed it meanwhile."""
    found = _find(tenant, key_id)
    if by.family_id == found.family_id:
        raise NotAllowed(_("A key does not change itself: use another, or the dashboard."))
    if unknown := rights.keys() - set(KEY_RIGHTS):
        raise BadValue(_("%(name)s: it cannot be changed.") % {"name": min(unknown)})
    if found.revoked_at is not None:
        raise Conflict(_("%(prefix)s… is revoked: issue a new key.") % {"prefix": found.prefix})
    more: list[str] = []
    if "scopes" in rights and isinstance(rights["scopes"], list):
        more = [scope for scope in rights["scopes"] if scope not in found.scopes]
        _refuse_scopes(by, more)
    if (own := _own(tenant, by)) is not None:
        if more:  # what it gets opens as far as all of it does
            _refuse_wider(own, handing.rights_of(found) | rights)
        else:
            _refuse_wider(own, rights, found)
    for name, value in rights.items():
        setattr(found, name, value)
    try:
        services.update_key(found)
    except ValidationError as error:
        raise _refused(error) from None
    return key(tenant, key_id)


def rotate(
    tenant: Tenant, key_id: int, *, by: Holder, overlap: timedelta = DEFAULT_OVERLAP
) -> IssuedKey:
    """A successor with the same rights; the old one works for `overlap` more. A key may rotate
    itself. Raises NotFound, NotAllowed where it has more rights than who acts, and Conflict."""
    found = _find(tenant, key_id)
    # Who gets the successor in hand has its scopes; one's own has one's own rails.
    if by.family_id != found.family_id:
        _refuse_scopes(by, found.scopes)
        if (own := _own(tenant, by)) is not None:
            _refuse_wider(own, handing.rights_of(found))
    try:
        return services.rotate_key(found, overlap=overlap)
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from None


def revoke(tenant: Tenant, key_id: int) -> APIKey:
    """End a key for good, also the one that asks. Raises NotFound."""
    return services.revoke_key(_find(tenant, key_id))


def rails(tenant: Tenant, key_id: int) -> ExchangeRails:
    """The guard rails of a key and its rotations. Raises NotFound."""
    found = _find(tenant, key_id)
    return _rails_of([found.family_id]).get(found.family_id, NO_RAILS)


def set_rails(tenant: Tenant, key_id: int, *, by: Holder, **values: Any) -> ExchangeRails:
    """Change some guard rails, in force everywhere within a second. A key may stop itself, and no
    more: rails that it could lift would hold nobody. Raises NotFound, NotAllowed and BadValue."""
    found = _find(tenant, key_id)
    is_stopping = all(name in _STOPPING and value is True for name, value in values.items())
    if by.family_id == found.family_id and not is_stopping:
        raise NotAllowed(_("A key does not loosen its own guard rails: use another."))
    try:
        return guarding.set_rails(found, **values)
    except ValidationError as error:
        raise bad_value(error) from None


def kill_all(tenant: Tenant) -> int:
    """Send nothing more to the exchange for any key, within a second; how many families of keys
    that stopped."""
    return guarding.kill_tenant(tenant)


def revive_all(tenant: Tenant, *, by: Holder) -> int:
    """Let all keys send again what their other rails let pass; how many families that are. Raises
    NotAllowed for a key that is stopped itself."""
    if by.family_id and ExchangeRails.objects.filter(key=by.family_id, is_killed=True).exists():
        raise NotAllowed(_("This key is stopped itself: use another, or the dashboard."))
    return guarding.revive_tenant(tenant)


def bad_value(error: ValidationError) -> BadValue:
    """The first mistake, as one line that names its field."""
    if hasattr(error, "error_dict"):
        name, messages = next(iter(error.message_dict.items()))
        return BadValue(messages[0] if name == "__all__" else f"{name}: {messages[0]}")
    return BadValue(error.messages[0])


def _refused(error: ValidationError) -> BadValue | Conflict:
    """How things stand, or a value that is none."""
    is_state = services.CHANGED in error.messages or getattr(error, "code", "") == TOO_MANY
    return Conflict(error.messages[0]) if is_state else bad_value(error)


def _find(tenant: Tenant, key_id: int) -> APIKey:
    found = APIKey.objects.for_tenant(tenant).of_customers().filter(pk=key_id).first()
    if found is None:
        raise NotFound(_("There is no key %(id)s.") % {"id": key_id})
    return found


def _refuse_scopes(by: Holder, scopes: Iterable[str]) -> None:
    # Who may change an account may let others look at it.
    held = by.scopes | ({str(Scope.ACCOUNT_READ)} if Scope.ACCOUNT in by.scopes else set())
    known = {str(scope) for scope in Scope}
    given = [scope for scope in scopes if scope in known]
    if more := [scope for scope in given if scope not in held]:
        if by.family_id:
            text = _("scopes: this key has no scope '%(scope)s', so it cannot give it.")
        else:
            text = _("scopes: your role does not reach to '%(scope)s', so it cannot give it.")
        raise NotAllowed(text % {"scope": more[0]})
    if (free := sorted(_PAST_RAILS.intersection(given))) and _is_held(by):
        raise NotAllowed(
            _(
                "scopes: this key has guard rails, and one that it made with '%(scope)s' would be "
                "past them: use another key, or the dashboard."
            )
            % {"scope": free[0]}
        )


def _own(tenant: Tenant, by: Holder) -> APIKey | None:
    """The acting key as it is now; None for a person."""
    return _find(tenant, by.key_id) if by.key_id else None


def _refuse_wider(own: APIKey, given: Mapping[str, Any], was: APIKey | None = None) -> None:
    if (line := handing.wider(own, given, was)) is not None:
        raise NotAllowed(line)


def _is_held(by: Holder) -> bool:
    """Whether any guard rail holds who acts."""
    rails = _rails_of([by.family_id]).get(by.family_id, NO_RAILS)
    return any(getattr(rails, name) != getattr(NO_RAILS, name) for name in guarding.FIELDS)


def _rails_of(family_ids: Iterable[int]) -> Mapping[int, ExchangeRails]:
    rows = ExchangeRails.objects.filter(key__in=set(family_ids))
    return {row.key_id: row for row in rows}


def _shown(key: APIKey, rails: ExchangeRails | None, now: datetime) -> ShownKey:
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None and key.expires_at <= now:
        state = "expired"
    else:
        state = "rotated" if key.rotated_at is not None else "active"
    return ShownKey(key, rails or NO_RAILS, state)
