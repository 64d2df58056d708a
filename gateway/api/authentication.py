"""Who asks, as the door has let them in, and what they may do: look, or change too."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from auditlog.context import auditlog_value
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from gateway.api.visit import Visit, visit_of
from tenants.admission.errors import MissingKey, ScopeMissing
from tenants.admission.principal import Scope


class KeyUser:
    """What the framework calls a user: a key. Nobody's session, and nobody's cookie."""

    is_authenticated = True
    is_active = True
    pk = None

    def __init__(self, visit: Visit) -> None:
        self.visit = visit

    def __str__(self) -> str:
        return f"{self.visit.principal.key_prefix}…"


class KeyAuthentication(BaseAuthentication):
    """Takes the door's word. Who came past it is nobody."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The key, and its visit."""
        visit = visit_of(request)
        if visit is None:
            return None
        user = KeyUser(visit)
        with suppress(LookupError):
            # Changes are in the audit log with the key that made them.
            auditlog_value.get()["actor_email"] = f"API key {user}"
        return user, visit

    def authenticate_header(self, request: Request) -> str:
        """So that who has none gets a 401."""
        return 'Bearer realm="hl-relay"'


class MayAct(BasePermission):
    """`account` may everything; `account_read` what changes nothing: safe methods, and views that
    say `is_reading`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raises a Denied, which says why."""
        visit = visit_of(request)
        if visit is None:
            raise MissingKey
        is_reading = request.method in SAFE_METHODS or getattr(view, "is_reading", False)
        if Scope.ACCOUNT not in visit.principal.scopes and not is_reading:
            raise ScopeMissing(Scope.ACCOUNT)
        return True
