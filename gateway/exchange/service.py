"""`/exchange`: from a customer's body to the exchange's answer, or to what is known without one.

Signed bodies are held for as long as they are on their way, and written nowhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Protocol

import structlog

from gateway.exchange import answers, metrics, rails
from gateway.exchange.asked import Asked, BadAction, label_of, read
from gateway.exchange.exposure import Exposure
from gateway.exchange.market import Market
from gateway.exchange.passage import DEADLINE_S, Outcome, Passed
from gateway.exchange.traders import Traders
from gateway.exchange.watch import Moment, Watch, Watcher
from gateway.http.call import Call
from gateway.http.errors import Headers, HttpError
from gateway.upstreams.posts import Answer
from tenants.admission.caps import BYTES, REQUESTS
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import Denied, InvalidKey
from tenants.admission.limiter import Rate
from tenants.admission.principal import Principal, Scope

log = structlog.get_logger(__name__)

#: The channel its use is counted on.
CHANNEL = "exchange"
#: Weight a minute of a key without a rate of its own or of its plan, as the exchange allows an
#: address.
DEFAULT_RATE = Rate(1_200, 1_200)
#: Waiting at one time, of one tenant. The exchange answers in some 0.2 s; who has more of them than
#: this waits for an exchange that does not answer.
MAX_UNDER_WAY = 100
#: From its arrival to its first byte.
READY_S = 2.0
#: Whether an unknown signer is known elsewhere: asked so often for a key, and waited for so long.
EXPLAIN_EVERY_S, EXPLAIN_S = 60.0, 0.3
ZERO = Decimal(0)


class Meter(Protocol):
    """What counts."""

    def slot(self, key_id: int, channel: str) -> int: ...
    def add_requests(self, slot: int, requests: int) -> None: ...
    def add(self, slot: int, messages: int, payload_bytes: int) -> None: ...


class Sender(Protocol):
    """What sends: one of our addresses, or a pool of them. Raises HttpError where the budget of the
    address is spent, and then nothing was sent."""

    async def send(
        self,
        urls: Sequence[str],
        body: bytes,
        *,
        principal: Principal,
        weight: int,
        check: Callable[[], None],
    ) -> Passed: ...


class Exchange:
    """One per process. `watcher` finds signers and keeps traces; `exists` says whether an address
    is known to the exchange, asked for a principal."""

    def __init__(
        self,
        *,
        admission: AdmissionControl,
        meter: Meter,
        urls: Callable[[], list[str]],
        sender: Sender,
        market: Market,
        exposure: Exposure,
        watcher: Watcher,
        exists: Callable[[str, Principal], Awaitable[bool]],
        is_draining: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admission = admission
        self._meter = meter
        self._urls = urls
        self._sender = sender
        self._market = market
        self._exposure = exposure
        self._watcher = watcher
        self._exists = exists
        self._is_mainnet = watcher.is_mainnet
        self._is_draining = is_draining
        self._monotonic = monotonic
        self._traders = Traders(admission, monotonic=monotonic)
        self._under_way: set[asyncio.Task[Answer]] = set()
        #: How many requests wait, by tenant.
        self._held: dict[int, int] = {}
        #: When it was asked for a key whether its signer exists elsewhere.
        self._explained_s: dict[int, float] = {}
        self._is_closing = False

    async def serve(
        self, body: bytes, principal: Principal, *, call: Call | None = None
    ) -> tuple[Answer, Headers]:
        """Charge, check, send and count one body; with the header fields that say how the rates
        stand. `call` is told of what is found out. Raises HttpError, or a Denied.

        What is not on its way `READY_S` after it came is not sent any more: its customer may have
        given up, and sent another. A caller that is cancelled leaves what was begun to its end: it
        is sent once, and counted once.
        """
        if self._is_closing or self._is_draining():
            raise answers.without_answer(Passed(Outcome.NOT_SENT, why="this process stops"))
        received = Moment.now()
        with self._place_of(principal):
            began_s = self._monotonic()
            principal = await self._traders.as_of_now(principal)
            self._admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
            standing = await self._admission.charge(principal, 1, default=DEFAULT_RATE)
            watch: Watch | None = None
            try:
                asked = read(body)
                if call is not None:
                    call.kind = label_of(asked.kind)
                if asked.weight > 1:
                    more = asked.weight - 1
                    standing = await self._admission.charge(principal, more, default=DEFAULT_RATE)
                request_id = call.id if call is not None else ""
                watch = self._watcher.begin(
                    asked, principal, request_id=request_id, received=received
                )
                answer = await self._passed_on(watch, asked, principal, began_s + READY_S)
            except BadAction as bad:
                raise HttpError(422, "bad_action", str(bad), headers=standing) from bad
            except HttpError as error:
                told = watch.headers() if watch is not None else []
                error.headers = [*error.headers, *standing, *told]
                raise
            finally:
                if call is not None:
                    call.asked_upstream(self._monotonic() - began_s)
        return answer, [*standing, *watch.headers()]

    @contextmanager
    def _place_of(self, principal: Principal) -> Iterator[None]:
        """One of the places of a tenant, whatever its order waits for."""
        tenant_id = principal.tenant_id
        held = self._held.get(tenant_id, 0)
        if held >= MAX_UNDER_WAY:
            raise HttpError(
                429,
                "too_many_under_way",
                f"{MAX_UNDER_WAY} requests of yours wait for the exchange already. Nothing was "
                "sent; try again when one of them is answered.",
                headers=[(b"retry-after", b"1")],
            )
        self._held[tenant_id] = held + 1
        try:
            yield
        finally:
            self._held[tenant_id] -= 1
            if not self._held[tenant_id]:
                del self._held[tenant_id]

    async def _passed_on(
        self, watch: Watch, asked: Asked, principal: Principal, ready_by_s: float
    ) -> Answer:
        try:
            amount = await self._checked(watch, asked, principal, ready_by_s)
        except rails.Refused as stopped:
            metrics.STOPPED.inc()
            watch.refused(str(stopped))
            return answers.refused(str(stopped))
        except (HttpError, BadAction) as error:
            watch.refused(str(error))
            raise
        carrying = asyncio.create_task(self._send(watch, asked, principal, amount, ready_by_s))
        self._under_way.add(carrying)
        carrying.add_done_callback(self._forget)
        return await asyncio.shield(carrying)

    async def _checked(
        self, watch: Watch, asked: Asked, principal: Principal, ready_by_s: float
    ) -> Decimal:
        """What was added to the key's minute. Raises rails.Refused, BadAction or HttpError."""
        if (set_ := principal.rails) is None:
            return ZERO
        try:
            async with asyncio.timeout(max(0.0, ready_by_s - self._monotonic())):
                signer = self._signer(watch, set_.signers) if set_.signers else ()
                if (set_.coins or set_.need_prices) and not asked.is_cancel:
                    await self._market.refresh(asked.assets(), with_prices=set_.need_prices)
                amount = rails.check(
                    asked,
                    set_,
                    signers=signer,
                    coin_of=self._market.coin_of,
                    price_of=self._market.price_of,
                )
                most = set_.max_minute_usd
                if not amount or most is None:
                    return ZERO
                if not await self._exposure.add(_family(principal), amount, most):
                    raise rails.Refused(
                        f"With these {amount:.2f} USD the orders of a minute would exceed {most} "
                        "USD (a guard rail of this API key)."
                    )
                return amount
        except TimeoutError:
            raise self._too_late() from None

    def _too_late(self) -> HttpError:
        why = f"it was not ready to be sent within {READY_S:g} s"
        return answers.without_answer(Passed(Outcome.NOT_SENT, why=why))

    def _signer(self, watch: Watch, allowed: frozenset[str]) -> tuple[str, ...]:
        is_mainnet = self._is_mainnet()
        ours = watch.signer(on_mainnet=is_mainnet)
        if is_mainnet and ours not in allowed and watch.signer(on_mainnet=False) in allowed:
            raise rails.Refused(f"The signer is not an allowed one.{answers.TESTNET_HINT}")
        return () if ours is None else (ours,)

    def _forget(self, carrying: asyncio.Task[Answer]) -> None:
        self._under_way.discard(carrying)
        if not carrying.cancelled():
            carrying.exception()  # looked at here, in case the customer went away

    async def _send(
        self,
        watch: Watch,
        asked: Asked,
        principal: Principal,
        amount: Decimal,
        ready_by_s: float,
    ) -> Answer:
        def check() -> None:
            """Last before the first byte leaves: what was true as it came may have waited."""
            if self._monotonic() > ready_by_s:
                raise self._too_late()
            self._check_again(principal)
            watch.leaves()

        try:
            passed = await self._sender.send(
                self._urls(), asked.body, principal=principal, weight=asked.weight, check=check
            )
        except (HttpError, Denied, rails.Refused) as stopped:
            await self._take_back(principal, amount)
            watch.refused(str(stopped))
            if isinstance(stopped, rails.Refused):
                metrics.STOPPED.inc()
                return answers.refused(str(stopped))
            raise
        except Exception as error:
            # Ours, and nobody knows how far it came: never a mere "internal error".
            log.exception("action_lost", error=type(error).__name__)
            passed = Passed(Outcome.UNKNOWN, why="the relay failed")
        metrics.OUTCOMES.labels(passed.outcome).inc()
        watch.ended(passed)
        if passed.outcome is Outcome.NOT_SENT:
            await self._take_back(principal, amount)
        else:
            self._count(passed, principal)
        if passed.answer is None:
            raise answers.without_answer(passed)
        if self._is_mainnet() and answers.is_of_unknown_signer(passed.answer):
            return await self._explained(watch, passed.answer, principal)
        return passed.answer

    def _check_again(self, principal: Principal) -> None:
        """Raises what has become of the key since it was let in."""
        directory = self._admission.directory
        if directory.opens_nothing(principal.digest):
            raise InvalidKey
        now = directory.cached(principal.digest)
        if now is None or now is principal:
            return
        self._admission.check_door(now, Scope.EXCHANGE)
        if now.rails != principal.rails:
            if now.rails is not None and now.rails.is_killed:
                raise rails.Refused(
                    "The kill switch is on: nothing is sent (a guard rail of this API key)."
                )
            raise rails.Refused(
                "The guard rails of this API key were changed meanwhile: try again."
            )

    def _count(self, passed: Passed, principal: Principal) -> None:
        """A disk that is full, say, must not take the answer away: it was sent."""
        try:
            if passed.sent_ns:
                metrics.UPSTREAM_SECONDS.observe((passed.answered_ns - passed.sent_ns) / 1e9)
            slot = self._meter.slot(principal.key_id, CHANNEL)
            self._meter.add_requests(slot, 1)
            self._meter.add(slot, 0, len(passed.answer.body) if passed.answer else 0)
        except Exception as error:
            log.error("action_not_counted", key=principal.key_prefix, error=type(error).__name__)

    async def _take_back(self, principal: Principal, amount: Decimal) -> None:
        if amount:
            await self._exposure.give_back(_family(principal), amount)

    async def _explained(self, watch: Watch, answer: Answer, principal: Principal) -> Answer:
        """Whether it is the signature of somebody whom the exchange knows, made for testnet. Asked
        once a minute for a key: invented signatures would make reads of 60 times their weight."""
        family_id, now_s = _family(principal), self._monotonic()
        if now_s - self._explained_s.get(family_id, float("-inf")) < EXPLAIN_EVERY_S:
            return answer
        self._explained_s = {
            key: at for key, at in self._explained_s.items() if now_s - at < EXPLAIN_EVERY_S
        } | {family_id: now_s}
        with suppress(Exception):  # the exchange's own answer is good enough
            other = watch.signer(on_mainnet=False)
            async with asyncio.timeout(EXPLAIN_S):
                if other is not None and await self._exists(other, principal):
                    return answers.with_testnet_hint(answer)
        return answer

    async def drain(self) -> None:
        """Take no new actions, and wait for those on their way."""
        self._is_closing = True
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=DEADLINE_S)

    async def aclose(self) -> None:
        """Wait for what is on its way, and let go."""
        await self.drain()
        self._traders.close()
        await self._market.aclose()
        await self._exposure.aclose()


def _family(principal: Principal) -> int:
    return principal.family_id or principal.key_id
