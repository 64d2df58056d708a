"""How many connections and subscriptions each tenant holds open, and the leases that count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from tenants.admission.access import NOBODY, Caller
from tenants.admission.caps import Standing
from tenants.admission.errors import (
    Denied,
    TooManyCoins,
    TooManyConnections,
    TooManySubscriptions,
    TooManyUsers,
)
from tenants.admission.principal import Limits, Principal


class Held(NamedTuple):
    """Connections and subscriptions open at one moment, and the distinct coins and users that these
    name."""

    connections: int = 0
    subscriptions: int = 0
    coins: int = 0
    users: int = 0


class _Tenancy:
    """The counters of one tenant in this process, its keys with open connections by their digests,
    and the limits its plan has now."""

    __slots__ = ("coins", "connections", "limits", "principals", "subscriptions", "users")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.principals: dict[str, Principal] = {}
        self.connections = 0
        self.subscriptions = 0
        self.coins: Counter[str] = Counter()
        self.users: Counter[str] = Counter()


class Occupancy:
    """Counts what is open in this process; refuses what would exceed the plan together with the
    other processes.

    What the others hold arrives from outside (`set_elsewhere`), about every two seconds, so tenants
    with several processes can overshoot by what they open elsewhere within that time. Distinct
    coins and users are counted in each process and added up: one that is followed in two processes
    counts twice. Nothing here waits for a server.
    """

    def __init__(self) -> None:
        self._tenancies: dict[int, _Tenancy] = {}
        self._elsewhere: Mapping[int, Held] = {}
        self._principals: dict[str, Principal] = {}
        self._leases_of: dict[str, set[Lease]] = {}

    def open(
        self,
        principal: Principal,
        *,
        scope: str = "",
        caller: Caller = NOBODY,
        on_refused: Callable[[Denied], None] | None = None,
        on_used: Callable[[Standing], None] | None = None,
    ) -> Lease:
        """Take one connection. Raises TooManyConnections and changes nothing when the plan has none
        left."""
        tenancy = self._tenancies.get(principal.pool_id)
        if tenancy is None:
            tenancy = _Tenancy(principal.limits)
        used = tenancy.connections + self._elsewhere.get(principal.pool_id, Held()).connections
        if used >= principal.limits.max_connections:
            raise TooManyConnections(used=used, limit=principal.limits.max_connections)
        self._tenancies[principal.pool_id] = tenancy
        tenancy.limits = principal.limits
        tenancy.connections += 1
        self._principals[principal.digest] = tenancy.principals[principal.digest] = principal
        lease = Lease(
            self,
            tenancy,
            principal,
            scope=scope,
            caller=caller,
            on_refused=on_refused,
            on_used=on_used,
        )
        self._leases_of.setdefault(principal.digest, set()).add(lease)
        return lease

    def refresh(self, principal: Principal) -> None:
        """Use the limits the tenant's plan has now. What is open stays open, also above a lower
        limit."""
        if principal.digest in self._principals:
            tenancy = self._tenancies[principal.pool_id]
            self._principals[principal.digest] = tenancy.principals[principal.digest] = principal
            tenancy.limits = principal.limits

    def set_elsewhere(self, held: Mapping[int, Held]) -> None:
        """Replace what other processes hold, by tenant id. An empty mapping means: count only what
        is ours."""
        self._elsewhere = held

    def held(self, tenant_id: int) -> Held:
        """What the tenant's keys have open in this process; of `-tenant_id`, its dashboards."""
        tenancy = self._tenancies.get(tenant_id)
        if tenancy is None:
            return Held()
        counts = (len(tenancy.coins), len(tenancy.users))
        return Held(tenancy.connections, tenancy.subscriptions, *counts)

    def all_held(self) -> dict[int, Held]:
        """What every tenant has open in this process, for telling the others."""
        return {tenant_id: self.held(tenant_id) for tenant_id in self._tenancies}

    def principals(self) -> list[Principal]:
        """The keys with at least one open connection here, each once."""
        return list(self._principals.values())

    def principals_of(self, tenant_id: int) -> list[Principal]:
        """Those of one tenant."""
        tenancy = self._tenancies.get(tenant_id)
        return list(tenancy.principals.values()) if tenancy is not None else []

    def leases(self, digest: str) -> list[Lease]:
        """The connections open here with one key."""
        return list(self._leases_of.get(digest, ()))

    def _subscribe(self, tenancy: _Tenancy, tenant_id: int, coin: str, user: str) -> None:
        limits, elsewhere = tenancy.limits, self._elsewhere.get(tenant_id, Held())
        used = tenancy.subscriptions + elsewhere.subscriptions
        if used >= limits.max_subscriptions:
            raise TooManySubscriptions(used=used, limit=limits.max_subscriptions)
        if coin and coin not in tenancy.coins and limits.max_coins is not None:
            used = len(tenancy.coins) + elsewhere.coins
            if used >= limits.max_coins:
                raise TooManyCoins(used=used, limit=limits.max_coins)
        if user and user not in tenancy.users and limits.max_users is not None:
            used = len(tenancy.users) + elsewhere.users
            if used >= limits.max_users:
                raise TooManyUsers(used=used, limit=limits.max_users)
        tenancy.subscriptions += 1
        if coin:
            tenancy.coins[coin] += 1
        if user:
            tenancy.users[user] += 1

    def _close(self, lease: Lease, tenancy: _Tenancy) -> None:
        tenancy.connections -= 1
        for named in [*lease.named.elements()]:
            lease.unsubscribe(*named)
        if tenancy.connections == 0:
            self._tenancies.pop(lease.principal.pool_id, None)
        digest = lease.principal.digest
        self._leases_of[digest].discard(lease)
        if not self._leases_of[digest]:
            del self._leases_of[digest]
            del self._principals[digest]
            del tenancy.principals[digest]


class Lease:
    """One open connection of a tenant: what it was let in as, where and from where, and the
    subscriptions made on it."""

    __slots__ = (
        "_is_open",
        "_occupancy",
        "_on_refused",
        "_on_used",
        "_tenancy",
        "caller",
        "named",
        "principal",
        "scope",
        "subscriptions",
    )

    def __init__(
        self,
        occupancy: Occupancy,
        tenancy: _Tenancy,
        principal: Principal,
        *,
        scope: str,
        caller: Caller,
        on_refused: Callable[[Denied], None] | None,
        on_used: Callable[[Standing], None] | None,
    ) -> None:
        self._occupancy = occupancy
        self._tenancy = tenancy
        self._on_refused = on_refused
        self._on_used = on_used
        self.principal = principal
        self.scope = scope
        self.caller = caller
        self.subscriptions = 0
        #: The coins and users its subscriptions name, with how many do.
        self.named: Counter[tuple[str, str]] = Counter()
        self._is_open = True

    def refuse(self, denied: Denied) -> None:
        """Tell whoever holds it that it would not be let in any more. They close it, when they
        can."""
        if self._on_refused is not None:
            self._on_refused(denied)

    def tell(self, standing: Standing) -> None:
        """Tell whoever holds it that an allowance passed a threshold, or is used up."""
        if self._on_used is not None:
            self._on_used(standing)

    def subscribe(self, coin: str = "", user: str = "") -> None:
        """Take one subscription. Raises TooManySubscriptions, TooManyCoins or TooManyUsers and
        changes nothing when the plan has none left."""
        if not self._is_open:
            raise RuntimeError("subscribe on a closed lease")
        self._occupancy._subscribe(self._tenancy, self.principal.pool_id, coin, user)
        self.subscriptions += 1
        self.named[coin, user] += 1

    def unsubscribe(self, coin: str = "", user: str = "") -> None:
        """Give one subscription back. Raises RuntimeError when none is held: a bug that would free
        others' room."""
        if self.named[coin, user] == 0:
            raise RuntimeError("unsubscribe without a subscription")
        self.subscriptions -= 1
        self._tenancy.subscriptions -= 1
        _give_back(self.named, (coin, user))
        if coin:
            _give_back(self._tenancy.coins, coin)
        if user:
            _give_back(self._tenancy.users, user)

    def close(self) -> None:
        """Give everything back. Closing again does nothing, so every way out of a session may call
        it."""
        if self._is_open:
            self._is_open = False
            # They lead back to us: a cycle, which waits for the collector.
            self._on_refused = self._on_used = None
            self._occupancy._close(self, self._tenancy)


Name = TypeVar("Name")


def _give_back(counts: Counter[Name], name: Name) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
