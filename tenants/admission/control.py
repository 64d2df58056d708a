"""AdmissionControl: what WebSocket, gRPC and HTTP ask before they serve anybody."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.db import close_old_connections

from tenants import metrics
from tenants.admission import changes, keys
from tenants.admission.access import NOBODY, Caller, refusal
from tenants.admission.directory import Directory
from tenants.admission.errors import Denied, InvalidKey, MissingKey, RateLimited
from tenants.admission.limiter import Buckets, Rate
from tenants.admission.principal import Principal
from tenants.admission.quotas import Lease, Occupancy
from tenants.admission.store import RedisStore
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: A revoked key must close its sockets within 5 s also when the doorbell is lost: 2 s, plus
#: the database's deadline of 2 s, plus Redis.
REVALIDATE_EVERY_S = 2.0
#: One statement per process and minute for all keys that were used, whatever they did.
NOTE_USE_EVERY_S = 60.0


class AdmissionControl:
    """One per process, built and used in its event loop. `run` must be running for revocations to
    arrive."""

    def __init__(
        self,
        directory: Directory,
        occupancy: Occupancy,
        *,
        store: RedisStore | None = None,
        pepper: str = "",
        note_use: Callable[[Collection[int]], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.occupancy = occupancy
        self._store = store
        self._pepper = pepper
        self._note_use = note_use
        self._now = now
        self._monotonic = monotonic
        self._process = uuid.uuid4().hex
        self._buckets = Buckets()
        self._used: set[int] = set()

    @classmethod
    def from_settings(cls) -> AdmissionControl:
        """The door as Django's settings describe it (REDIS_CACHE_URL, RELAY_KEY_PEPPER)."""
        url = getattr(settings, "REDIS_CACHE_URL", "")
        store = RedisStore(url) if url else None
        return cls(
            Directory(load=load_principals, store=store),
            Occupancy(),
            store=store,
            pepper=getattr(settings, "RELAY_KEY_PEPPER", ""),
            note_use=note_use,
        )

    def known(self, raw_key: str) -> Principal | None:
        """The principal if this process can tell at once; None means "ask `authenticate`", never
        "refuse"."""
        principal = self.directory.cached(keys.digest(raw_key, self._pepper))
        if principal is None or principal.is_expired(self._now()):
            return None
        return principal

    async def authenticate(
        self, raw_key: str | None, *, scope: str, caller: Caller = NOBODY
    ) -> Principal:
        """Who this key is, if it opens the door `scope` to `caller`.

        Raises MissingKey, InvalidKey, AddressNotAllowed, OriginNotAllowed, ScopeMissing or
        Unavailable.
        """
        with _counted():
            principal = await self._authenticate(raw_key, scope, caller)
        metrics.admissions.labels("admitted").inc()
        self._used.add(principal.key_id)
        return principal

    def charge(self, principal: Principal, weight: float, *, default: Rate | None = None) -> None:
        """Spend `weight` of the key's rate, or of `default` where it has none of its own; without
        either it is free. Raises RateLimited.

        Keys of one family share a bucket, so a rotation doubles no rate. Each process has its own
        buckets: nobody waits for a server here.
        """
        rate = principal.rate or default
        if rate is None:
            return
        family_id = principal.family_id or principal.key_id
        wait_s = self._buckets.take(family_id, rate, weight, now_s=self._monotonic())
        if wait_s:
            with _counted():
                raise RateLimited(retry_after_s=wait_s)

    def open_connection(
        self,
        principal: Principal,
        *,
        scope: str,
        caller: Caller,
        on_refused: Callable[[Denied], None],
    ) -> Lease:
        """Count one more connection. Raises TooManyConnections. Whoever opened it closes the lease.

        `on_refused` is called in the loop when the same key would not be let in any more: revoked,
        expired, suspended, or with lists or scopes that no longer fit. It is called again every two
        seconds while the lease stays open, so one missed close is not for ever.
        """
        with _counted():
            return self.occupancy.open(principal, scope=scope, caller=caller, on_refused=on_refused)

    async def run(self) -> None:
        """Watch for revoked keys and trade occupancy until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(changes.watch(self._changed))
                tasks.create_task(self._revalidate_forever())
                tasks.create_task(self._trade_forever())
                tasks.create_task(self._note_use_forever())
        finally:
            if self._store is not None:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(1.0):
                        await self._store.leave(self._process)

    async def aclose(self) -> None:
        """Let go of threads and connections, after `run` has been cancelled and awaited."""
        await self.directory.aclose()
        if self._store is not None:
            await self._store.aclose()

    async def revalidate(self, digests: Collection[str] | None = None) -> None:
        """Ask again about `digests`, or about every key with open connections, and end those that
        are refused now."""
        # What has expired needs nobody's answer: a database that hangs must not keep it open.
        self._review({})
        if digests is None:
            digests = [principal.digest for principal in self.occupancy.principals()]
        answers = await self.directory.revalidate(digests)
        # Read after the wait: what was opened meanwhile with a key that is gone must go as well.
        self._review(answers)
        metrics.open_keys.set(len(self.occupancy.principals()))

    def _review(self, answers: Mapping[str, Principal | None]) -> None:
        """Put the question of the door again to what is open; keys without an answer are what they
        were."""
        now = self._now()
        for held in self.occupancy.principals():
            current = answers.get(held.digest, held)
            if current is not None and current is not held:
                self.occupancy.refresh(current)
            is_over = current is None or current.is_expired(now)
            if is_over:
                metrics.revocations.inc()
                log.info("key_no_longer_valid", tenant=held.tenant_slug, key=held.key_prefix)
            for lease in self.occupancy.leases(held.digest):
                if current is None or is_over:
                    _refuse(lease, InvalidKey())
                elif lease.principal is not current:
                    denied = refusal(current, lease.caller, scope=lease.scope, now=now)
                    if denied is None:
                        lease.principal = current
                    else:
                        _refuse(lease, denied)

    async def _authenticate(self, raw_key: str | None, scope: str, caller: Caller) -> Principal:
        if not raw_key:
            raise MissingKey
        if not keys.is_well_formed(raw_key):
            raise InvalidKey
        principal = await self.directory.find(keys.digest(raw_key, self._pepper))
        if principal is None:
            raise InvalidKey
        denied = refusal(principal, caller, scope=scope, now=self._now())
        if denied is not None:
            raise denied
        return principal

    async def _changed(self, digests: list[str]) -> None:
        # Most announcements are about keys this process has never seen.
        ours = {principal.digest for principal in self.occupancy.principals()}
        await self.revalidate(
            [digest for digest in digests if digest in ours or self.directory.holds(digest)]
        )

    async def _revalidate_forever(self) -> None:
        while True:
            stop_if_cancelled()
            await asyncio.sleep(REVALIDATE_EVERY_S)
            try:
                await self.revalidate()
            except Exception as error:
                stop_if_cancelled()
                # A loop that must survive: without it no revocation would arrive any more.
                log.error("admission_revalidation_failed", error=type(error).__name__)

    async def _trade_forever(self) -> None:
        if self._store is None:
            return
        while True:
            try:
                async with asyncio.timeout(2.0):
                    elsewhere = await self._store.trade_occupancy(
                        self._process, self.occupancy.all_held()
                    )
                self.occupancy.set_elsewhere(elsewhere)
            except Exception as error:
                stop_if_cancelled()
                # Redis is down: reads go on, and each process counts only what is its own.
                self.occupancy.set_elsewhere({})
                log.warning("admission_occupancy_unshared", error=type(error).__name__)
            stop_if_cancelled()
            await asyncio.sleep(REVALIDATE_EVERY_S)

    async def _note_use_forever(self) -> None:
        if self._note_use is None:
            return
        while True:
            await asyncio.sleep(NOTE_USE_EVERY_S)
            used, self._used = self._used, set()
            if not used:
                continue
            try:
                async with asyncio.timeout(10.0):
                    await asyncio.to_thread(self._note_use, used)
            except Exception as error:
                stop_if_cancelled()
                self._used |= used  # with the next minute's
                log.warning("key_use_not_noted", error=type(error).__name__)


def _refuse(lease: Lease, denied: Denied) -> None:
    try:
        lease.refuse(denied)
    except Exception as error:
        # The others must be told as well.
        log.error("refusal_callback_failed", error=type(error).__name__)


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except Denied as denied:
        metrics.admissions.labels(denied.code).inc()
        raise


def note_use(key_ids: Collection[int]) -> None:
    """Write down that keys were used just now; in a thread, as `load_principals`."""
    from tenants.services import note_use as write

    close_old_connections()
    try:
        write(key_ids, at=datetime.now(UTC))
    finally:
        close_old_connections()


def load_principals(digests: Collection[str]) -> dict[str, Principal]:
    """Ask the database, in a thread that may have slept through its connection's death."""
    from tenants.selectors import principals_by_digest

    close_old_connections()
    try:
        return principals_by_digest(digests)
    finally:
        close_old_connections()
