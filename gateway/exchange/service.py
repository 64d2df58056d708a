"""`/exchange`: from a customer's body to the exchange's answer, or to what is known without one.

Signed bodies are held for as long as they are on their way, and written nowhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.exchange import answers, metrics, rails
from gateway.exchange.asked import Asked, BadAction, label_of, read
from gateway.exchange.exposure import Exposure
from gateway.exchange.market import Market
from gateway.exchange.passage import DEADLINE_S, Outcome, Passed
from gateway.http.call import Call
from gateway.http.errors import Headers, HttpError
from gateway.upstreams.posts import Answer
from tenants.admission.caps import BYTES, REQUESTS
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import InvalidKey
from tenants.admission.limiter import Rate
from tenants.admission.principal import Principal

log = structlog.get_logger(__name__)

#: The channel its use is counted on.
CHANNEL = "exchange"
#: Weight a minute of a key without a rate of its own or of its plan, as the exchange allows an
#: address.
DEFAULT_RATE = Rate(1_200, 1_200)
#: The kill switch is promised within a second, also where its announcement was lost.
LOOK_AGAIN_S = 0.4
#: A key that has sent nothing for so long is not looked at any more, until it does again.
TRADER_FOR_S = 600.0
#: On their way at one time, of one key. The exchange answers in some 0.2 s; who has more on the way
#: than this waits for an exchange that does not answer.
MAX_UNDER_WAY = 100


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signed a body, were it for one network or for the other; lower case, None where nobody
    can be recovered."""

    mainnet: str | None
    testnet: str | None


class Meter(Protocol):
    """What counts."""

    def slot(self, key_id: int, channel: str) -> int: ...
    def add_requests(self, slot: int, requests: int) -> None: ...
    def add(self, slot: int, messages: int, payload_bytes: int) -> None: ...


class Sender(Protocol):
    """What sends: one of our addresses, or a pool of them. Raises HttpError where the budget of the
    address is spent, and then nothing was sent."""

    async def send(
        self, urls: Sequence[str], body: bytes, *, principal: Principal, weight: int
    ) -> Passed: ...


class Exchange:
    """One per process. `recover` is given a body's envelope and takes some 0.4 ms; `exists` says
    whether an address is known to the exchange."""

    def __init__(
        self,
        *,
        admission: AdmissionControl,
        meter: Meter,
        urls: Callable[[], list[str]],
        sender: Sender,
        market: Market,
        exposure: Exposure,
        recover: Callable[[Asked], Signers],
        exists: Callable[[str], Awaitable[bool]],
        is_mainnet: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admission = admission
        self._meter = meter
        self._urls = urls
        self._sender = sender
        self._market = market
        self._exposure = exposure
        self._recover = recover
        self._exists = exists
        self._is_mainnet = is_mainnet
        self._monotonic = monotonic
        #: When a key traded last, by its digest.
        self._traders: dict[str, float] = {}
        self._under_way: dict[asyncio.Task[Answer], int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def serve(
        self, body: bytes, principal: Principal, *, call: Call | None = None
    ) -> tuple[Answer, Headers]:
        """Charge, check, send and count one body; with the header fields that say how the rates
        stand. `call` is told of what is found out. Raises HttpError, or a Denied.

        A caller that is cancelled leaves what was begun to its end: it is sent once, and counted
        once.
        """
        principal = await self._as_of_now(principal)
        self._admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
        try:
            asked = read(body)
            weight = asked.weight
        except BadAction as bad:
            await self._admission.charge(principal, 1, default=DEFAULT_RATE)
            raise HttpError(422, "bad_action", str(bad)) from bad
        if call is not None:
            call.kind = label_of(asked.kind)
        standing = await self._admission.charge(principal, weight, default=DEFAULT_RATE)
        try:
            if (answer := await self._stopped(asked, principal)) is None:
                began_s = self._monotonic()
                try:
                    answer = await self._carry(asked, principal)
                finally:
                    if call is not None:
                        call.asked_upstream(self._monotonic() - began_s)
        except HttpError as error:
            error.headers = [*error.headers, *standing]
            raise
        return answer, standing

    async def _stopped(self, asked: Asked, principal: Principal) -> Answer | None:
        """The refusal of a guard rail, if one stops it."""
        if (set_ := principal.rails) is None:
            return None
        try:
            signer = self._signer(asked, set_.signers) if set_.signers else ()
            if set_.coins or set_.need_prices:
                await self._market.refresh(asked.assets(), with_prices=set_.need_prices)
            amount = rails.check(
                asked,
                set_,
                signers=signer,
                coin_of=self._market.coin_of,
                price_of=self._market.price_of,
            )
            most = set_.max_minute_usd
            if amount and most is not None:
                family_id = principal.family_id or principal.key_id
                if not await self._exposure.add(family_id, amount, most):
                    raise rails.Refused(
                        f"With these {amount:.2f} USD the orders of a minute would exceed {most} "
                        "USD (a guard rail of this API key)."
                    )
        except rails.Refused as stopped:
            metrics.STOPPED.inc()
            return answers.refused(str(stopped))
        except BadAction as bad:
            raise HttpError(422, "bad_action", str(bad)) from bad
        return None

    def _signer(self, asked: Asked, allowed: frozenset[str]) -> tuple[str, ...]:
        found = self._recover(asked)
        ours, other = found.mainnet, found.testnet
        if not self._is_mainnet():
            ours, other = other, ours
        if other in allowed and ours not in allowed and self._is_mainnet():
            raise rails.Refused(f"The signer is not an allowed one.{answers.TESTNET_HINT}")
        return () if ours is None else (ours,)

    async def _carry(self, asked: Asked, principal: Principal) -> Answer:
        mine = sum(1 for key_id in self._under_way.values() if key_id == principal.key_id)
        if mine >= MAX_UNDER_WAY:
            raise HttpError(
                429,
                "too_many_under_way",
                f"{MAX_UNDER_WAY} requests of this key wait for the exchange already. Nothing was "
                "sent; try again when one of them is answered.",
                headers=[(b"retry-after", b"1")],
            )
        carrying = asyncio.create_task(self._send(asked, principal))
        self._under_way[carrying] = principal.key_id
        carrying.add_done_callback(self._forget)
        return await asyncio.shield(carrying)

    def _forget(self, carrying: asyncio.Task[Answer]) -> None:
        self._under_way.pop(carrying, None)
        if not carrying.cancelled():
            carrying.exception()  # looked at here, in case the customer went away

    async def _send(self, asked: Asked, principal: Principal) -> Answer:
        passed = await self._sender.send(
            self._urls(), asked.body, principal=principal, weight=asked.weight
        )
        metrics.OUTCOMES.labels(passed.outcome).inc()
        if passed.sent_ns:
            metrics.UPSTREAM_SECONDS.observe((passed.answered_ns - passed.sent_ns) / 1e9)
        if passed.outcome is not Outcome.NOT_SENT:
            slot = self._meter.slot(principal.key_id, CHANNEL)
            self._meter.add_requests(slot, 1)
            self._meter.add(slot, 0, len(passed.answer.body) if passed.answer else 0)
        if passed.answer is None:
            raise answers.without_answer(passed)
        if self._is_mainnet() and answers.is_of_unknown_signer(passed.answer):
            return await self._explained(asked, passed.answer)
        return passed.answer

    async def _explained(self, asked: Asked, answer: Answer) -> Answer:
        """Whether it is the signature of somebody whom the exchange knows, made for testnet."""
        with suppress(Exception):  # the exchange's own answer is good enough
            found = self._recover(asked)
            if found.testnet is not None and await self._exists(found.testnet):
                return answers.with_testnet_hint(answer)
        return answer

    # --- what is set for a key, within a second ---------------------------------------------------

    async def _as_of_now(self, principal: Principal) -> Principal:
        """The principal, as the database had it at most a second ago, if that can be told. Raises
        InvalidKey when it is none any more."""
        digest = principal.digest
        if digest not in self._traders:
            await self._admission.revalidate([digest])
        self._traders[digest] = self._monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again())
        directory = self._admission.directory
        if directory.opens_nothing(digest):
            raise InvalidKey
        return directory.cached(digest) or principal

    async def _look_again(self) -> None:
        """Ask about the keys that trade, for as long as there are any."""
        while self._traders:
            await asyncio.sleep(LOOK_AGAIN_S)
            since_s = self._monotonic() - TRADER_FOR_S
            self._traders = {key: at for key, at in self._traders.items() if at > since_s}
            try:
                await self._admission.revalidate(list(self._traders))
            except Exception as error:
                log.error("traders_not_revalidated", error=type(error).__name__)

    async def aclose(self) -> None:
        """Wait for what is on its way, and let go."""
        if self._looking is not None:
            self._looking.cancel()
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=DEADLINE_S)
        await self._exposure.aclose()
