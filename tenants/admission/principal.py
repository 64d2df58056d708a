"""An authenticated key: all the hot path ever knows of a tenant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate

DEFAULT_MAX_LAG_S = 5.0
Network = IPv4Network | IPv6Network


class Scope(StrEnum):
    """A door a key may open."""

    WS = "ws"
    INFO = "info"
    GRPC = "grpc"
    EXCHANGE = "exchange"
    EVM = "evm"
    HISTORY = "history"
    ACCOUNT = "account"


#: What a new key may do unless told otherwise: read. Trading is asked for explicitly.
DEFAULT_SCOPES = (Scope.WS, Scope.INFO, Scope.GRPC)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tenant's plan allows at one time, over all its keys; `max_lag_s` is of each
    connection: how far behind a reader of `l4Book` and raw streams may fall."""

    max_connections: int
    max_subscriptions: int
    max_lag_s: float = DEFAULT_MAX_LAG_S


#: A tenant without a current plan may authenticate but hold nothing open.
NO_LIMITS = Limits(max_connections=0, max_subscriptions=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Never holds the raw key. `digest` is what the directory is keyed by; it is kept out of
    `repr`, and so out of logs."""

    tenant_id: int
    tenant_slug: str
    key_id: int
    key_prefix: str
    environment: Environment
    plan_code: str
    scopes: frozenset[str]
    limits: Limits
    expires_at: datetime | None
    digest: str = field(repr=False)
    family_id: int = 0
    """The id of the first key of its rotations: they share what a key has, its rate above all."""
    networks: tuple[Network, ...] = ()
    """Where it may be used from; none: from everywhere."""
    origins: frozenset[str] = frozenset()
    """The web pages it may be used from, as `access.parse_origin` writes them; none: anywhere."""
    rate: Rate | None = None
    """Its own rate; None: what a door gives to everybody."""

    def is_expired(self, now: datetime) -> bool:
        """Whether the key's last moment has passed; at `expires_at` itself it is over."""
        return self.expires_at is not None and now >= self.expires_at
