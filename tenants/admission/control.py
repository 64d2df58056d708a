"""AdmissionControl: what WebSocket, gRPC and HTTP ask before they serve anybody."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from django.conf import settings

from tenants import metrics
from tenants.admission import changes, database, keys
from tenants.admission.access import NOBODY, Caller, refusal
from tenants.admission.allowances import Allowances, LoadUsed
from tenants.admission.caps import Standing
from tenants.admission.directory import Directory
from tenants.admission.errors import (
    Denied,
    InvalidKey,
    MissingKey,
    NotInPlan,
    RateLimited,
    ScopeMissing,
    TooManyWrongKeys,
)
from tenants.admission.limiter import Rate
from tenants.admission.principal import Principal, product_of
from tenants.admission.quotas import Lease, Occupancy
from tenants.admission.rate_headers import Headers, rate_headers
from tenants.admission.rate_store import RateStore
from tenants.admission.rates import Rates
from tenants.admission.store import RedisStore
from tenants.admission.used_store import UsedStore
from tenants.admission.wrong_keys import WrongKeys
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: A revoked key must close its sockets within 5 s also when the doorbell is lost: 2 s, plus
#: the database's deadline of 2 s, plus Redis.
REVALIDATE_EVERY_S = 2.0
#: One statement per process and minute for all keys that were used, whatever they did.
NOTE_USE_EVERY_S = 60.0
#: An unknown key from an address that floods us waits its turn this long: one is looked up at a
#: time.
WRONG_KEY_WAIT_S = 2.0


class _Bucket(NamedTuple):
    """What header fields call it, its key, and its rate."""

    name: str
    key: str
    rate: Rate


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
        quota_url: str = "",
        load_used: LoadUsed | None = None,
        warn: Callable[[Sequence[Standing]], None] | None = None,
        region: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`quota_url` is the Redis of rates and allowances; without one each process counts alone.
        `region` is where this process stands, "" where that says nothing."""
        self.directory = directory
        self.occupancy = occupancy
        self._store = store
        self._pepper = pepper
        self._note_use = note_use
        self._now = now
        self._monotonic = monotonic
        self._process = uuid.uuid4().hex
        self._region = region
        self._used: set[int] = set()
        self._wrong_keys = WrongKeys()
        self._unknown_turn = asyncio.Semaphore(1)
        self._used_store = UsedStore(quota_url, process=self._process) if quota_url else None
        self._rate_store = RateStore(quota_url, process=self._process) if quota_url else None
        self.rates = Rates(self._rate_store, processes=self.processes, monotonic=monotonic)
        self.allowances = Allowances(
            self._used_store,
            load_used=load_used,
            processes=self.processes,
            on_standing=self._tell,
            is_open=lambda tenant_id: bool(self.occupancy.principals_of(tenant_id)),
            warn=warn,
            now=now,
        )

    @classmethod
    def from_settings(cls, load_used: LoadUsed | None = None) -> AdmissionControl:
        """The door as Django's settings describe it (REDIS_CACHE_URL, REDIS_QUOTA_URL,
        RELAY_KEY_PEPPER, RELAY_REGION, RELAY_PROCESSES)."""
        url = getattr(settings, "REDIS_CACHE_URL", "")
        store = RedisStore(url, processes=settings.RELAY_PROCESSES) if url else None
        return cls(
            Directory(load=database.load_principals, store=store),
            Occupancy(),
            store=store,
            pepper=getattr(settings, "RELAY_KEY_PEPPER", ""),
            note_use=database.note_use,
            quota_url=getattr(settings, "REDIS_QUOTA_URL", ""),
            load_used=load_used,
            warn=database.warn,
            region=region if (region := settings.RELAY_REGION) != "default" else "",
        )

    def processes(self) -> int:
        """How many processes share the limits, this one included, as last heard; before that, as
        many as the settings say."""
        return self._store.processes if self._store is not None else 1

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

        Raises MissingKey, InvalidKey, TooManyWrongKeys, AddressNotAllowed, OriginNotAllowed,
        ScopeMissing, NotInPlan or Unavailable.
        """
        with _counted():
            principal = await self._authenticate(raw_key, scope, caller)
            self._check_plan(principal, scope)
        self.allowances.know(principal)
        await self.allowances.learn(principal)
        metrics.admissions.labels("admitted").inc()
        self._used.add(principal.key_id)
        return principal

    async def charge(
        self, principal: Principal, weight: float, *, default: Rate | None = None
    ) -> Headers:
        """Spend `weight` of the key's own rate and of its tenant's plan's, or of `default` where it
        has neither; without any it is free. Answers the header fields that say how these stand.
        Raises RateLimited, and has spent nothing then.

        Keys of one family share a bucket, so a rotation doubles no rate.
        """
        buckets = _buckets(principal, default)
        wait_s = 0.0
        for taken, (_, bucket, rate) in enumerate(buckets):
            wait_s = await self.rates.take(bucket, rate, weight)
            if wait_s:
                for _, before, _ in buckets[:taken]:
                    self.rates.give_back(before, weight)
                break
        headers = self._standing(buckets)
        if wait_s:
            with _counted():
                raise RateLimited(retry_after_s=wait_s, standing=headers)
        return headers

    def owe(self, principal: Principal, weight: float, *, default: Rate | None = None) -> Headers:
        """Spend `weight` of the buckets of `charge` whatever is in them: what a request turned out
        to weigh once it was answered. Who owes waits longer for the next. Answers as `charge`."""
        buckets = _buckets(principal, default)
        for _, bucket, rate in buckets:
            self.rates.owe(bucket, rate, weight)
        return self._standing(buckets)

    def _standing(self, buckets: Sequence[_Bucket]) -> Headers:
        return rate_headers([(name, self.rates.level(key, rate)) for name, key, rate in buckets])

    def check_door(self, principal: Principal, scope: str) -> None:
        """Of who came in by another door. Raises ScopeMissing or NotInPlan."""
        with _counted():
            if scope not in principal.scopes:
                raise ScopeMissing(scope)
            self._check_plan(principal, scope)

    def check_quota(
        self, principal: Principal, *metrics_used: str, channel: str | None = None
    ) -> None:
        """Raises QuotaExhausted when an allowance of one of these metrics on `channel` (None: of
        all channels) is used up."""
        with _counted():
            _raise(self.allowances.refusal(principal, *metrics_used, channel=channel))

    def open_connection(
        self,
        principal: Principal,
        *,
        scope: str,
        caller: Caller,
        on_refused: Callable[[Denied], None],
        on_used: Callable[[Standing], None] | None = None,
    ) -> Lease:
        """Count one more connection. Raises TooManyConnections. Whoever opened it closes the lease.

        `on_refused` is called in the loop when the same key would not be let in any more: revoked,
        expired, suspended, or with lists or scopes that no longer fit. It is called again every two
        seconds while the lease stays open, so one missed close is not for ever. `on_used` is called
        when an allowance passed a threshold, and each second while one is used up.
        """
        with _counted():
            return self.occupancy.open(
                principal, scope=scope, caller=caller, on_refused=on_refused, on_used=on_used
            )

    async def run(self) -> None:
        """Watch for revoked keys and trade occupancy until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(changes.watch(self._changed))
                tasks.create_task(self._revalidate_forever())
                tasks.create_task(self._trade_forever())
                tasks.create_task(self._note_use_forever())
                tasks.create_task(self.rates.run())
                tasks.create_task(self.allowances.run())
        finally:
            if self._store is not None:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(1.0):
                        await self._store.leave(self._process)

    async def aclose(self) -> None:
        """Let go of threads and connections, after `run` has been cancelled and awaited."""
        await self.directory.aclose()
        for store in (self._store, self._used_store, self._rate_store):
            if store is not None:
                await store.aclose()

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
                self.allowances.know(current)
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
        principal = None
        if keys.is_well_formed(raw_key):
            principal = await self._find(keys.digest(raw_key, self._pepper), caller)
        if principal is None:
            wait_s = self._wrong_keys.count(caller.address, now_s=self._monotonic())
            if wait_s:
                metrics.wrong_keys.inc()
                raise TooManyWrongKeys(retry_after_s=wait_s)
            raise InvalidKey
        _raise(refusal(principal, caller, scope=scope, now=self._now()))
        return principal

    async def _find(self, digest: str, caller: Caller) -> Principal | None:
        """Of an address that sends one wrong key after the other, what this process does not know
        is looked up one at a time; a good key from there only waits for its turn."""
        is_flooding = self._wrong_keys.is_flooding(caller.address, now_s=self._monotonic())
        if not is_flooding or self.directory.holds(digest):
            return await self.directory.find(digest)
        try:
            async with asyncio.timeout(WRONG_KEY_WAIT_S):
                async with self._unknown_turn:
                    return await self.directory.find(digest)
        except TimeoutError:
            metrics.wrong_keys.inc()
            raise TooManyWrongKeys(retry_after_s=WRONG_KEY_WAIT_S) from None

    def _check_plan(self, principal: Principal, scope: str) -> None:
        """What a plan has not is not opened; what is open stays when a plan gets smaller."""
        limits = principal.limits
        product = product_of(scope)
        if limits.products is not None and product not in limits.products:
            raise NotInPlan("product", product, limits.products)
        if limits.regions is not None and self._region and self._region not in limits.regions:
            raise NotInPlan("region", self._region, limits.regions)

    def _tell(self, standing: Standing) -> None:
        """To the connections that a cap is of."""
        cap = standing.cap
        for held in self.occupancy.principals_of(cap.tenant_id):
            # Another key of the tenant may know of a cap that this one has no more.
            if self.allowances.counts(held, cap):
                for lease in self.occupancy.leases(held.digest):
                    try:
                        lease.tell(standing)
                    except Exception as error:
                        log.error("standing_callback_failed", error=type(error).__name__)

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


def _buckets(principal: Principal, default: Rate | None) -> list[_Bucket]:
    family_id = principal.family_id or principal.key_id
    plan = principal.limits.rate
    own = principal.rate or (default if not plan else None)
    return [
        _Bucket(name, key, rate)
        for name, key, rate in (
            ("default", f"key:{family_id}", own),
            ("plan", f"tenant:{principal.tenant_id}", plan),
        )
        if rate is not None
    ]


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except Denied as denied:
        metrics.admissions.labels(denied.code).inc()
        raise


def _raise(denied: Denied | None) -> None:
    # Here, and not where it is found: a frame that keeps what it raised is kept by that.
    if denied is not None:
        try:
            raise denied
        finally:
            del denied
