"""AdmissionControl: what WebSocket, gRPC and HTTP ask before they serve anybody."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.db import close_old_connections

from tenants import metrics
from tenants.admission import changes, keys
from tenants.admission.directory import Directory
from tenants.admission.errors import Denied, InvalidKey, MissingKey, ScopeMissing
from tenants.admission.principal import Principal
from tenants.admission.quotas import Lease, Occupancy
from tenants.admission.store import RedisStore
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: A revoked key must close its sockets within 5 s also when the doorbell is lost: 2 s, plus
#: the database's deadline of 2 s, plus Redis.
REVALIDATE_EVERY_S = 2.0

OnRevoked = Callable[[int], None]


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
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.directory = directory
        self.occupancy = occupancy
        self._store = store
        self._pepper = pepper
        self._now = now
        self._process = uuid.uuid4().hex
        self._on_revoked: list[OnRevoked] = []

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
        )

    def known(self, raw_key: str) -> Principal | None:
        """The principal if this process can tell at once; None means "ask `authenticate`", never
        "refuse"."""
        principal = self.directory.cached(keys.digest(raw_key, self._pepper))
        if principal is None or principal.is_expired(self._now()):
            return None
        return principal

    async def authenticate(self, raw_key: str | None, *, scope: str) -> Principal:
        """Who this key is. Raises MissingKey, InvalidKey, ScopeMissing or Unavailable."""
        try:
            principal = await self._authenticate(raw_key, scope)
        except Denied as denied:
            metrics.admissions.labels(denied.code).inc()
            raise
        metrics.admissions.labels("admitted").inc()
        return principal

    def open_connection(self, principal: Principal) -> Lease:
        """Count one more connection. Raises TooManyConnections. Whoever opened it closes the
        lease."""
        try:
            return self.occupancy.open(principal)
        except Denied as denied:
            metrics.admissions.labels(denied.code).inc()
            raise

    def on_revoked(self, callback: OnRevoked) -> None:
        """Call `callback(key_id)` in the loop when a key with open connections stops being valid.

        It is called again every two seconds while connections of that key stay open, so one missed
        close is not for ever.
        """
        self._on_revoked.append(callback)

    async def run(self) -> None:
        """Watch for revoked keys and trade occupancy until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(changes.watch(self._changed))
                tasks.create_task(self._revalidate_forever())
                tasks.create_task(self._trade_forever())
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
        """Ask again about `digests`, or about every key with open connections, and report those no
        longer valid."""
        if digests is None:
            digests = [principal.digest for principal in self.occupancy.principals()]
        answers = await self.directory.revalidate(digests)
        now = self._now()
        # Read after the wait: what was opened meanwhile with a key that is gone must go as well.
        open_principals = self.occupancy.principals()
        metrics.open_keys.set(len(open_principals))
        for held in open_principals:
            current = answers.get(held.digest, held)
            if current is None or current.is_expired(now):
                self._report(held)
            elif current is not held:
                self.occupancy.refresh(current)

    async def _authenticate(self, raw_key: str | None, scope: str) -> Principal:
        if not raw_key:
            raise MissingKey
        if not keys.is_well_formed(raw_key):
            raise InvalidKey
        principal = await self.directory.find(keys.digest(raw_key, self._pepper))
        if principal is None or principal.is_expired(self._now()):
            raise InvalidKey
        if scope not in principal.scopes:
            raise ScopeMissing(scope)
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

    def _report(self, principal: Principal) -> None:
        metrics.revocations.inc()
        log.info("key_no_longer_valid", tenant=principal.tenant_slug, key=principal.key_prefix)
        for callback in self._on_revoked:
            try:
                callback(principal.key_id)
            except Exception as error:
                log.error("revocation_callback_failed", error=type(error).__name__)


def load_principals(digests: Collection[str]) -> dict[str, Principal]:
    """Ask the database, in a thread that may have slept through its connection's death."""
    from tenants.selectors import principals_by_digest

    close_old_connections()
    try:
        return principals_by_digest(digests)
    finally:
        close_old_connections()
