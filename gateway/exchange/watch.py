"""What is looked at of an action beside its way: who signed it, whether its nonce or clock will
make trouble, what its address may still send, and the trace.

It is done while the exchange is waited for, and nothing of it stops an action.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from gateway.exchange import nonces, trace
from gateway.exchange.address_budget import AddressBudgets
from gateway.exchange.asked import Asked
from gateway.exchange.nonces import Nonces, Warned
from gateway.exchange.passage import Outcome, Passed
from gateway.exchange.shared_nonces import SharedNonces
from gateway.exchange.tracing import Tracer
from gateway.http.errors import Headers
from tenants.admission.principal import Principal

log = structlog.get_logger(__name__)

#: By then an action has left here, and its answer is seldom there: to find its signer takes 0.15
#: ms of this loop. Sooner it stands in the way of the action, after 1 ms in that of answers from
#: nearby: 2.6 ms were added then, and 1.6 without any of it.
LOOK_AFTER_S = 0.0004
#: By then an answer has left for the customer; to note what became of it takes 0.13 ms.
NOTE_AFTER_S = 0.001


#: Who signed a body, if it was for mainnet (True) or for testnet; in lower case, None where nobody
#: can be recovered.
Recover = Callable[[Asked, bool], str | None]


class Moment(NamedTuple):
    """Now: ms since 1970, and ns of the monotonic clock."""

    ms: float
    ns: int

    @classmethod
    def now(cls) -> Moment:
        """Both clocks, read together."""
        return cls(time.time() * 1e3, time.monotonic_ns())


class Watcher:
    """One per process. `recover` takes some 0.15 ms for a network. What is not given is left
    out."""

    def __init__(
        self,
        recover: Recover,
        *,
        is_mainnet: Callable[[], bool] = lambda: True,
        tracer: Tracer | None = None,
        budgets: AddressBudgets | None = None,
        shared_nonces: SharedNonces | None = None,
    ) -> None:
        self.recover = recover
        self.is_mainnet = is_mainnet
        self.tracer = tracer
        self.budgets = budgets
        self.nonces = Nonces()
        self.shared_nonces = shared_nonces

    def begin(
        self, asked: Asked, principal: Principal, *, request_id: str, received: Moment
    ) -> Watch:
        """Look at an action that is on its way."""
        return Watch(self, asked, principal, request_id, received)


class Watch:
    """One action. Exactly one of `ended` and `refused` is called, once."""

    def __init__(
        self,
        watcher: Watcher,
        asked: Asked,
        principal: Principal,
        request_id: str,
        received: Moment,
    ) -> None:
        self._watcher = watcher
        self._asked = asked
        self._principal = principal
        self._request_id = request_id
        self._received = received
        self._signers: dict[bool, str | None] = {}
        self._warned: list[Warned] = []
        self._is_looked_at = False
        self._is_used = False
        self._elsewhere: asyncio.Task[bool] | None = None
        #: On our network; "" where nobody can be recovered.
        self._signer = ""
        self._address = ""

    def signer(self, *, on_mainnet: bool) -> str | None:
        """Who signed it, if it was for that network: found when it is asked for, and once."""
        if on_mainnet not in self._signers:
            self._signers[on_mainnet] = self._watcher.recover(self._asked, on_mainnet)
        return self._signers[on_mainnet]

    def leaves(self) -> None:
        """It is about to be sent: look at the rest once it has left."""
        asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)

    def ended(self, passed: Passed) -> None:
        """What became of it. A fault in here must not take the answer away: it was sent."""
        try:
            self._look()
            self._ended(passed)
        except Exception as error:
            log.error("action_not_watched", error=type(error).__name__)

    def _ended(self, passed: Passed) -> None:
        watcher, answer = self._watcher, passed.answer
        if self._is_of_another_process():
            self._warned.append(nonces.reused(self._asked.nonce))
        elif passed.outcome is Outcome.NOT_SENT:
            self._give_back()
        asyncio.get_running_loop().call_later(NOTE_AFTER_S, self._note, passed, "")
        if watcher.budgets is not None and self._address and answer is not None:
            if b'"ok"' in answer.body[:40]:
                slug = self._principal.tenant_slug
                watcher.budgets.used(self._address, self._asked.length, slug=slug)

    def refused(self, why: str) -> None:
        """Nothing was sent, and this is why."""
        self._is_looked_at = True
        self._give_back()  # it may have been looked at while it waited for its turn
        self._note(None, why)

    def headers(self) -> Headers:
        """What the answer says of all this."""
        told = [(b"x-relay-warning", f"{w.code}; {w.text}".encode()) for w in self._warned]
        budgets = self._watcher.budgets
        if budgets is not None and self._address:
            if (known := budgets.of(self._address)) is not None:
                told.append((b"x-relay-address-budget", known.header(time.time() * 1e3)))
        return told

    def _look(self) -> None:
        if self._is_looked_at:
            return
        self._is_looked_at = True
        try:
            asked, watcher = self._asked, self._watcher
            signer = self.signer(on_mainnet=watcher.is_mainnet()) or ""
            self._signer = signer
            if asked.kind != "noop":  # which is there to burn a nonce of before
                expires_after = asked.envelope.get("expiresAfter")
                self._warned += nonces.clock_of(
                    asked.nonce, expires_after, now_ms=self._received.ms
                )
                if signer:
                    if (warned := watcher.nonces.use(signer, asked.nonce)) is not None:
                        self._warned.append(warned)
                    else:
                        self._is_used = True
                        if watcher.shared_nonces is not None:
                            self._elsewhere = watcher.shared_nonces.use(signer, asked.nonce)
            follower = watcher.tracer.follower if watcher.tracer is not None else None
            user = follower.user_of(signer) if follower is not None else signer
            self._address = trace.user_of(asked, user)
            if follower is not None:
                follower.expect(self._principal.tenant_id, self._address)
        except Exception as error:
            log.error("action_not_looked_at", error=type(error).__name__)

    def _is_of_another_process(self) -> bool:
        elsewhere = self._elsewhere
        return elsewhere is not None and elsewhere.done() and elsewhere.result()

    def _give_back(self) -> None:
        """Nothing was sent: its nonce may be, unless it was another's already."""
        if self._is_used and not self._is_of_another_process():
            self._is_used = False
            watcher, signer, nonce = self._watcher, self._signer, self._asked.nonce
            watcher.nonces.give_back(signer, nonce)
            if watcher.shared_nonces is not None:
                watcher.shared_nonces.give_back(signer, nonce)

    def _note(self, passed: Passed | None, why: str) -> None:
        if (tracer := self._watcher.tracer) is None:
            return
        tracer.note(
            self._asked,
            self._principal,
            request_id=self._request_id,
            received_ms=self._received.ms,
            received_ns=self._received.ns,
            signer=self._signer,
            passed=passed,
            refused=why,
            warnings=tuple(warned.code for warned in self._warned),
        )
