"""An authenticated key: all the hot path ever knows of a tenant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from tenants.admission.keys import Environment
from tenants.admission.limiter import Rate
from tenants.admission.rails import Rails

DEFAULT_MAX_LAG_S = 5.0
#: At so many percent of an allowance a tenant is told that chose no others. 150 is reached by
#: allowances that are only told.
THRESHOLDS = (75, 80, 100, 150)
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
    SANDBOX = "sandbox"
    #: The same door as `account`, to look and not to touch.
    ACCOUNT_READ = "account_read"


#: The doors a plan may have. Whoever may look at an account has the account's door.
PRODUCTS = tuple(scope for scope in Scope if scope is not Scope.ACCOUNT_READ)


def product_of(scope: str) -> str:
    """The door, as plans name it, that a scope opens."""
    return Scope.ACCOUNT if scope == Scope.ACCOUNT_READ else scope


#: What a new key may do unless told otherwise: read, and trade where nothing is real. Trading is
#: asked for explicitly.
DEFAULT_SCOPES = (Scope.WS, Scope.INFO, Scope.GRPC, Scope.SANDBOX)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tenant may do at one time, over all its keys. None in a limit is no limit, and in a
    set all there are.

    `rate` is of weight, of which most `/info` requests take 20 (docs/limits.md).
    `max_lag_s` is of each connection: how far behind a reader of `l4Book` and raw streams may fall.
    `products` are the doors, by the names of `Scope`; `channels` the types of subscriptions;
    `retention_hours` how far back a resume may begin.
    """

    max_connections: int
    max_subscriptions: int
    max_lag_s: float = DEFAULT_MAX_LAG_S
    max_coins: int | None = None
    max_users: int | None = None
    rate: Rate | None = None
    retention_hours: int | None = None
    products: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    regions: frozenset[str] | None = None


class Allowed(NamedTuple):
    """How many weighted units of a metric the tenant may use in `[starts_at, ends_at)`.

    Of its `channels`; without any, of all that no other allowance of the metric names at that time.
    `weights` are decimal texts by channel; a channel without one has 1.
    """

    code: str
    metric: str
    starts_at: datetime
    ends_at: datetime
    units: int
    is_hard: bool
    channels: tuple[str, ...] = ()
    weights: tuple[tuple[str, str], ...] = ()


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
    """Its own rate, within its plan's; None: its plan's alone, or where that has none, what a door
    gives to everybody."""
    daily_quota: int | None = None
    monthly_quota: int | None = None
    """Messages and requests a UTC day and month, of all keys of its rotations together."""
    allowances: tuple[Allowed, ...] = ()
    """The tenant's, those of now and of later."""
    thresholds: tuple[int, ...] = THRESHOLDS
    """At which percentages of allowances and quotas the tenant is told."""
    rails: Rails | None = None
    """What it may not do on the exchange."""

    @property
    def is_dashboard(self) -> bool:
        """Whether it is a member in a browser, by a dashboard token."""
        return self.environment is Environment.WEB

    @property
    def free_for(self) -> str:
        """Why all that it is given is free, "" where it is not."""
        return "dashboard" if self.is_dashboard else ""

    @property
    def pool_id(self) -> int:
        """With whom it shares what may be open at one time: all keys of the tenant, or its
        dashboards, so that an open page takes nothing from a program."""
        return -self.tenant_id if self.is_dashboard else self.tenant_id

    def is_expired(self, now: datetime) -> bool:
        """Whether the key's last moment has passed; at `expires_at` itself it is over."""
        return self.expires_at is not None and now >= self.expires_at
