"""Why somebody was not let in, each with a code that never changes. Edges translate these once."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar


class Denied(Exception):
    """The door stayed shut. `str()` is one line for the customer; nothing in it is secret."""

    code: ClassVar[str] = "denied"
    http_status: ClassVar[int] = 403
    retry_after_s: float | None = None

    @property
    def body(self) -> bytes:
        """The JSON body of a refusal over HTTP or at a handshake."""
        return json.dumps({"code": self.code, "msg": str(self), **self.fields}).encode()

    @property
    def fields(self) -> dict[str, Any]:
        """What a program reads of it, beside `code` and `msg`."""
        return {}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Response headers that belong to this refusal, in ASGI form."""
        headers = [(b"content-type", b"application/json")]
        if self.http_status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="hl-relay"'))
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        return headers


class MissingKey(Denied):
    """No key was sent at all."""

    code = "missing_key"
    http_status = 401

    def __init__(self) -> None:
        super().__init__(
            "No API key. Put it in the path (/<key>/ws), in X-API-Key or in Authorization: Bearer."
        )


class InvalidKey(Denied):
    """Mistyped, unknown, revoked, expired or of a suspended tenant.

    One text for all of them, byte for byte: the difference would tell a guesser which keys once
    existed.
    """

    code = "invalid_key"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("This API key is not valid.")


class ScopeMissing(Denied):
    """A good key at a door it was not issued for."""

    code = "scope_missing"
    http_status = 403

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key does not have the scope '{scope}'.")
        self.scope = scope


class AddressNotAllowed(Denied):
    """A good key, used from an address that is not on its list."""

    code = "address_not_allowed"
    http_status = 403

    def __init__(self, address: str) -> None:
        # The address as we see it, which is what its owner has to put on the list.
        super().__init__(f"This API key may not be used from {address or 'here'}.")


class OriginNotAllowed(Denied):
    """A good key, used from a web page that is not on its list, or from none."""

    code = "origin_not_allowed"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("This API key may be used from certain web pages alone, and not this one.")


class TooManyConnections(Denied):
    """The tenant's plan allows no further connection."""

    code = "too_many_connections"
    http_status = 429

    def __init__(self, *, used: int, limit: int) -> None:
        super().__init__(
            f"Too many connections: {used} of {limit} in use. Close one or change the plan."
        )
        self.used, self.limit = used, limit
        self.retry_after_s = 5.0


class TooManySubscriptions(Denied):
    """The tenant's plan allows no further subscription; those it has stay as they are."""

    code = "too_many_subscriptions"
    http_status = 429

    def __init__(self, *, used: int, limit: int) -> None:
        super().__init__(
            f"Too many subscriptions: {used} of {limit} in use. Unsubscribe one or change the plan."
        )
        self.used, self.limit = used, limit


class TooManyCoins(Denied):
    """The tenant's plan allows no further coin; those it follows stay."""

    code = "too_many_coins"
    http_status = 429

    def __init__(self, *, used: int, limit: int) -> None:
        super().__init__(
            f"Too many coins: {used} of {limit} in use. Unsubscribe one or change the plan."
        )
        self.used, self.limit = used, limit


class TooManyUsers(Denied):
    """The tenant's plan allows no further user; those it follows stay."""

    code = "too_many_users"
    http_status = 429

    def __init__(self, *, used: int, limit: int) -> None:
        super().__init__(
            f"Too many users: {used} of {limit} in use. Unsubscribe one or change the plan."
        )
        self.used, self.limit = used, limit


class NotInPlan(Denied):
    """A door, a region or a channel that the tenant's plan has not. Names what it has."""

    code = "not_in_plan"
    http_status = 403

    def __init__(self, what: str, name: str, has: Collection[str]) -> None:
        self.has = sorted(has)
        named = ", ".join(self.has[:30]) + (", …" if len(self.has) > 30 else "")
        super().__init__(f"The {what} '{name}' is not in your plan, which has {named or 'none'}.")

    @property
    def fields(self) -> dict[str, Any]:
        """The names the plan has."""
        return {"has": self.has}


class QuotaExhausted(Denied):
    """An allowance, or a key's own quota, is used up until `resets_at`."""

    code = "quota_exhausted"
    http_status = 429

    def __init__(
        self, *, allowance: str, used: int, limit: int, resets_at: datetime, retry_after_s: float
    ) -> None:
        super().__init__(
            f"The allowance '{allowance}' is used up: {used:,} of {limit:,}. "
            f"It begins anew at {resets_at:%Y-%m-%dT%H:%M:%SZ}; a larger plan is had at once."
        )
        self.allowance, self.used, self.limit, self.resets_at = allowance, used, limit, resets_at
        self.retry_after_s = retry_after_s

    @property
    def fields(self) -> dict[str, Any]:
        """Which allowance, how much of it, and when it begins anew."""
        return {
            "allowance": self.allowance,
            "used": self.used,
            "limit": self.limit,
            "resets_at": f"{self.resets_at:%Y-%m-%dT%H:%M:%SZ}",
        }


class RateLimited(Denied):
    """Too fast. `retry_after_s` says when the same request would have been served; `standing` are
    the header fields that say how the rates stand."""

    code = "rate_limited"
    http_status = 429

    def __init__(
        self, *, retry_after_s: float, standing: Collection[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(f"Too many requests. Try again in {retry_after_s:.1f} s.")
        self.retry_after_s = retry_after_s
        self.standing = standing

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """With how the rates stand."""
        return [*super().headers, *self.standing]


class TooManyWrongKeys(Denied):
    """This address sent too many keys that are none. Good keys work on, from there too."""

    code = "too_many_wrong_keys"
    http_status = 429

    def __init__(self, *, retry_after_s: float) -> None:
        super().__init__(
            "Too many wrong API keys from your address. Check the key, then try again."
        )
        self.retry_after_s = retry_after_s


class Unavailable(Denied):
    """We cannot tell whether the key is good: neither the directory nor the database answered."""

    code = "unavailable"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("Keys cannot be checked right now. Try again shortly.")
        self.retry_after_s = 2.0


class Draining(Denied):
    """This process is about to end; the others serve."""

    code = "draining"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("This process is being replaced. Connect again.")
        self.retry_after_s = 1.0


#: Every kind an edge must be able to translate.
KINDS: tuple[type[Denied], ...] = (
    MissingKey,
    InvalidKey,
    ScopeMissing,
    AddressNotAllowed,
    OriginNotAllowed,
    TooManyConnections,
    TooManySubscriptions,
    TooManyCoins,
    TooManyUsers,
    NotInPlan,
    QuotaExhausted,
    RateLimited,
    TooManyWrongKeys,
    Unavailable,
    Draining,
)
