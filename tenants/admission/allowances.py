"""How much of its caps each tenant has used: counted here, settled with the others every second.

Nothing here runs for a message: once a second the meter's own counters are compared with what they
were, and each tenant that used something costs one call of a script. Between two of them a process
knows what all had told when it last asked, and what it used itself since.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from tenants import metrics
from tenants.admission.account import STORED, TOLD_BY_NOBODY, Account
from tenants.admission.account import Used as Used
from tenants.admission.caps import (
    Cap,
    Standing,
    Usage,
    caps_of,
    has_grown,
    next_change,
    standing,
)
from tenants.admission.errors import QuotaExhausted
from tenants.admission.loading import Loading
from tenants.admission.loading import LoadUsed as LoadUsed
from tenants.admission.principal import Principal
from tenants.admission.used_store import Line, Settlement
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

SETTLE_EVERY_S = 1.0
#: Who uses nothing here is asked about this often, in settlements: others may use it up.
IDLE_EVERY = 10
#: Settled in one turn of the loop, about 5 ms.
AT_A_TIME = 200
MAX_PRINCIPALS = 50_000
#: Of a cap that began just now nothing was used before.
NEW = timedelta(seconds=60)

#: The caps of a key, and what a message, byte and request on one channel take of each.
_Factors = tuple[tuple[Cap, ...], list[tuple[Cap, int, int, int]]]


class Store(Protocol):
    """What processes share; any exception means "no answer"."""

    async def settle(self, settlements: Sequence[Settlement]) -> list[list[int | None]]: ...
    async def read(self, tenant_id: int, names: Sequence[str]) -> list[int | None]: ...


class Allowances:
    """One per process, used in its event loop.

    `meter` gives what was used since it was last asked, in pieces; `on_standing` hears of what
    passed a threshold, and of what is exhausted each time. `is_open` says whether a tenant has
    connections here: then what the database alone counts is asked of it each minute.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        load_used: LoadUsed | None = None,
        processes: Callable[[], int] = lambda: 1,
        on_standing: Callable[[Standing], None] = lambda _: None,
        is_open: Callable[[int], bool] = lambda _: True,
        warn: Callable[[Sequence[Standing]], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.meter: Callable[[], Iterable[Iterable[Usage]]] = lambda: ()
        self._store = store
        self._loading = Loading(load_used, now=now) if load_used is not None else None
        self._processes = processes
        self._on_standing = on_standing
        self._is_open = is_open
        self._warn = warn
        self._now = now
        self._principals: OrderedDict[int, Principal] = OrderedDict()
        #: Of each tenant, the key that was known last at the end.
        self._keys_of: dict[int, dict[int, None]] = {}
        self._caps: dict[int, tuple[Principal, datetime, tuple[Cap, ...]]] = {}
        self._factors: dict[int, dict[str, _Factors]] = {}
        self._accounts: dict[int, dict[str, Account]] = {}
        self._sequences = itertools.count(1)
        self._unanswered: dict[int, Settlement] = {}
        self._to_warn: list[Standing] = []
        self._ticks = itertools.count(1)
        self.is_alone = store is None

    def know(self, principal: Principal) -> None:
        """This key may use something now: what it uses counts against its caps of now."""
        key_id = principal.key_id
        self._drop(key_id, is_known_again=_has_caps(principal))
        if _has_caps(principal):
            self._principals[key_id] = principal
            self._keys_of.setdefault(principal.tenant_id, {})[key_id] = None
            if len(self._principals) > MAX_PRINCIPALS:
                self._drop(next(iter(self._principals)))

    async def learn(self, principal: Principal) -> None:
        """Before the first use: ask once what others used. Never raises, waits half a second at
        most."""
        if not _has_caps(principal):
            return
        accounts = [self._account(cap) for cap in self._caps_of(principal)]
        new = [
            one
            for one in accounts
            if one.seen is None and not one.absent and not one.cap.is_of_ledger
        ]
        if not new or self._store is None or self.is_alone:
            return
        try:
            async with asyncio.timeout(0.5):
                names = [account.cap.name for account in new]
                answers = await self._store.read(principal.tenant_id, names)
        except Exception as error:
            stop_if_cancelled()
            log.warning("allowances_unread", error=type(error).__name__)
            return
        for account, used in zip(new, answers, strict=True):
            account.absent += used is None
            if used is not None:
                account.seen = max(used, account.seen or 0)

    def refusal(
        self, principal: Principal, *metrics_used: str, channel: str | None = None
    ) -> QuotaExhausted | None:
        """Why `principal` may use no more of these metrics on `channel` (None: on any), or None."""
        if not _has_caps(principal):
            return None
        now = self._now()
        for cap in self._caps_of(principal):
            counts = cap.is_whole if channel is None else cap.covers(channel)
            if counts and not set(cap.metrics).isdisjoint(metrics_used):
                current = self._standing(self._account(cap))
                if current.is_exhausted:
                    return current.refusal(now)
        return None

    async def run(self) -> None:
        """Count and settle until cancelled."""
        try:
            while True:
                stop_if_cancelled()
                await asyncio.sleep(SETTLE_EVERY_S)
                try:
                    await self.settle()
                except Exception as error:
                    stop_if_cancelled()
                    # A loop that must survive: without it nothing would be refused any more.
                    log.error("allowances_not_settled", error=type(error).__name__)
        finally:
            if self._loading is not None:
                await self._loading.aclose()

    async def settle(self) -> None:
        """Count what was used since the last time, tell it, hear of the others, and judge."""
        for piece in self.meter():
            self._take(piece)
            await asyncio.sleep(0)
        is_for_all = next(self._ticks) % IDLE_EVERY == 0
        due = [tenant_id for tenant_id in self._accounts if is_for_all or self._is_due(tenant_id)]
        for start in range(0, len(due), AT_A_TIME):
            await self._settle(due[start : start + AT_A_TIME])
        await self._load(due)
        for start in range(0, len(due), AT_A_TIME):
            for tenant_id in due[start : start + AT_A_TIME]:
                self._judge_tenant(tenant_id)
            await asyncio.sleep(0)
        await self._send_warnings()

    def _take(self, usages: Iterable[Usage]) -> None:
        now = self._now()
        for key_id, channel, messages, payload_bytes, requests in usages:
            principal = self._principals.get(key_id)
            if principal is None:
                continue
            caps = self._caps_of(principal, now)
            # What a channel takes of each is found once: 10,000 slots a second have to be quick.
            factors = self._factors.setdefault(key_id, {})
            taken = factors.get(channel)
            if taken is None or taken[0] is not caps:
                taken = factors[channel] = (caps, [(cap, *cap.factors(channel)) for cap in caps])
            for cap, message, byte, request in taken[1]:
                micros = messages * message + payload_bytes * byte + requests * request
                if micros:
                    self._account(cap).pending += micros

    async def _settle(self, tenant_ids: Collection[int]) -> None:
        if self._store is None:
            return
        made = (self._settlement(tenant_id) for tenant_id in tenant_ids)
        settlements = [one for one in made if one.lines]
        try:
            async with asyncio.timeout(1.0):
                answers = await self._store.settle(settlements)
        except Exception as error:
            stop_if_cancelled()
            # Redis is down: each process has its share of what was left when it last heard.
            self._note_alone(is_alone=True, error=type(error).__name__)
            return
        self._note_alone(is_alone=False)
        for settlement, answer in zip(settlements, answers, strict=True):
            self._unanswered.pop(settlement.tenant_id, None)
            for line, used in zip(settlement.lines, answer, strict=True):
                account = self._accounts[settlement.tenant_id].get(line.name)
                if account is None:
                    continue
                if used is None:
                    account.absent += 1
                else:
                    account.pending -= line.add * STORED
                    account.seen, account.loaded = used, None

    def _settlement(self, tenant_id: int) -> Settlement:
        """The next one, or the one that may or may not have arrived: its number counts once."""
        if (before := self._unanswered.get(tenant_id)) is not None:
            return before
        lines = tuple(
            Line(one.cap.name, one.pending // STORED, one.to_tell, one.cap.ends_at)
            for one in self._accounts[tenant_id].values()
            if not one.cap.is_of_ledger
        )
        made = Settlement(tenant_id, next(self._sequences), lines)
        if lines:
            self._unanswered[tenant_id] = made
        return made

    async def _load(self, tenant_ids: Iterable[int]) -> None:
        """Ask the database where nobody has told."""
        now = self._now()
        wanted: dict[int, list[Account]] = defaultdict(list)
        for tenant_id in tenant_ids:
            for account in self._accounts[tenant_id].values():
                if account.cap.is_of_ledger:
                    if self._loading is not None and self._is_to_load(account, now):
                        wanted[tenant_id].append(account)
                    continue
                if account.seen is not None or account.loaded is not None:
                    continue
                if self._loading is None or now - account.cap.starts_at < NEW:
                    account.loaded = 0
                    account.absent += TOLD_BY_NOBODY
                elif account.absent or self.is_alone:
                    wanted[tenant_id].append(account)
        if self._loading is not None and wanted:
            await self._loading.ask(wanted)

    def counts(self, principal: Principal, cap: Cap) -> bool:
        """Whether `cap` is one of this key now."""
        return any(one.name == cap.name for one in self._caps_of(principal))

    def _judge_tenant(self, tenant_id: int) -> None:
        """Judge what the door would; let go of the rest, which ended or was taken away, once it is
        told."""
        accounts, current = self._accounts.get(tenant_id, {}), self._current(tenant_id)
        for name, account in list(accounts.items()):
            if name in current:
                self._judge(self._account(current[name]))
            elif tenant_id not in self._unanswered and self._is_done_with(account):
                del accounts[name]
        if not accounts:
            self._accounts.pop(tenant_id, None)

    def _current(self, tenant_id: int) -> dict[str, Cap]:
        """The caps of a tenant's known keys. Its allowances are those the last known key says: a
        key that was used hours ago may know of others."""
        now = self._now()
        caps: dict[str, Cap] = {}
        for number, key_id in enumerate(reversed(self._keys_of.get(tenant_id, {}))):
            principal = self._principals[key_id]
            if number == 0 or principal.daily_quota or principal.monthly_quota:
                for cap in self._caps_of(principal, now):
                    if number == 0 or cap.family_id:
                        caps.setdefault(cap.name, cap)
        return caps

    def _is_done_with(self, account: Account) -> bool:
        is_told = self._store is None or account.pending < STORED
        return is_told or account.cap.ends_at < self._now() - NEW

    def _judge(self, account: Account) -> None:
        current = self._standing(account)
        is_new = current.threshold > account.told
        if is_new:
            account.told, account.told_of = current.threshold, account.cap.units
            self._to_warn.append(current)
        # Of what is nothing and was not used nobody follows anything.
        if is_new or (current.is_exhausted and current.threshold):
            self._on_standing(current)

    async def _send_warnings(self) -> None:
        if self._warn is None or not self._to_warn:
            return
        warnings, self._to_warn = self._to_warn, []
        try:
            async with asyncio.timeout(10.0):
                await asyncio.to_thread(self._warn, warnings)
        except Exception as error:
            stop_if_cancelled()
            self._to_warn = warnings + self._to_warn  # with the next second's
            log.warning("quota_warnings_not_written", error=type(error).__name__)

    def _is_due(self, tenant_id: int) -> bool:
        now = self._now()
        return tenant_id in self._unanswered or any(
            self._is_to_load(account, now)
            if account.cap.is_of_ledger
            else account.pending >= STORED or account.seen is None
            for account in self._accounts[tenant_id].values()
        )

    def _is_to_load(self, account: Account, now: datetime) -> bool:
        return account.is_to_load(now) and self._is_open(account.cap.tenant_id)

    def _standing(self, account: Account) -> Standing:
        others = max(1, self._processes()) if self.is_alone else 1
        return standing(account.cap, account.micros(others))

    def _caps_of(self, principal: Principal, now: datetime | None = None) -> tuple[Cap, ...]:
        known = self._caps.get(principal.key_id)
        now = now or self._now()
        if known is not None and known[0] is principal and now < known[1]:
            return known[2]
        caps = caps_of(principal, now)
        self._caps[principal.key_id] = (principal, next_change(principal, now), caps)
        return caps

    def _account(self, cap: Cap) -> Account:
        accounts = self._accounts.setdefault(cap.tenant_id, {})
        account = accounts.get(cap.name)
        if account is None:
            account = accounts[cap.name] = Account(cap)
        elif account.cap is not cap:
            # Bought more: what was said of the old amount is said again of the new one.
            if has_grown(cap.units, account.told_of):
                account.told = 0
            account.cap = cap
        return account

    def _drop(self, key_id: int, *, is_known_again: bool = False) -> None:
        before = self._principals.pop(key_id, None)
        if before is not None:
            keys = self._keys_of[before.tenant_id]
            del keys[key_id]
            if not keys:
                del self._keys_of[before.tenant_id]
        if not is_known_again:
            self._caps.pop(key_id, None)
            self._factors.pop(key_id, None)

    def _note_alone(self, *, is_alone: bool, error: str = "") -> None:
        if is_alone:
            metrics.unshared.labels("allowances").inc()
        if is_alone != self.is_alone:
            self.is_alone = is_alone
            log.warning("allowances_unshared" if is_alone else "allowances_shared", error=error)


def _has_caps(principal: Principal) -> bool:
    return bool(principal.allowances or principal.daily_quota or principal.monthly_quota)
