"""One request to the account API on its way through Django: who was let in, and what became of
it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenants.admission.principal import Principal

#: Where it is in the ASGI scope.
IN_SCOPE = "relay.visit"


@dataclass(slots=True)
class Visit:
    """`body_sha256` is of the bytes that were sent; `code` why it was refused, "" while it was
    not."""

    principal: Principal
    request_id: str
    body_sha256: str = ""
    code: str = ""


def visit_of(request: Any) -> Visit | None:
    """That of a request of Django's or the framework's; None for one that came past the door."""
    plain = getattr(request, "_request", request)
    scope = getattr(plain, "scope", None)
    found = scope.get(IN_SCOPE) if scope is not None else None
    return found if isinstance(found, Visit) else None
