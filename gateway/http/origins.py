"""Which upstream's `/info` is asked, in what order, and what is done when one does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway.http.errors import HttpError
from gateway.http.metrics import ORIGIN_REQUESTS
from gateway.http.routes import Route, Source
from gateway.http.weights import weight_of_answer
from gateway.upstreams.posts import Answer, Endpoint, Failed, GatewayEndpoint, HttpEndpoint
from streaming.upstream.spec import UpstreamKind, UpstreamSpec

#: Of one request, the second try included.
DEADLINE_S = 5.0
TRIES = 2
#: A node further behind the best, or without a block for so long, is not asked.
MAX_LAG = 45
STALL_S = 2.0
#: An upstream that said 429 is left alone for so long, or for as long as it asked for.
COOL_S, MAX_COOL_S = 5.0, 60.0
#: One that did not answer is asked after the others for so long.
WARY_S = 2.0

States = Callable[[], Iterable[Mapping[str, Any]]]


class Pot(Protocol):
    """What may be asked of the public API."""

    async def take(self, tenant: str, weight: float) -> float:
        """Spend `weight` and return 0.0, or the seconds to wait."""

    def owe(self, tenant: str, weight: float) -> None:
        """Count what an answer weighed more."""


class BudgetSpent(HttpError):
    """The public budget has nothing for this tenant now."""

    def __init__(self, tenant: str, wait_s: float) -> None:
        retry = str(max(1, round(wait_s))).encode()
        super().__init__(
            429,
            "public_budget_spent",
            "What this relay may ask the public API in a minute is spent, shared fairly between "
            f"its customers. Try again in {int(retry)} s, or ask for what our own nodes serve.",
            headers=[(b"retry-after", retry)],
        )
        self.tenant = tenant


@dataclass(frozen=True, slots=True)
class Got:
    """An origin's answer, whose it is, its height when it was asked, and how long it took."""

    answer: Answer
    source: Source
    height: int | None
    took_s: float


@dataclass(slots=True)
class _Origin:
    name: str
    spec: UpstreamSpec
    endpoint: Endpoint
    asked: int = 0  # requests on their way
    cool_until_s: float = 0.0
    wary_until_s: float = 0.0

    @property
    def source(self) -> Source:
        is_public = self.spec.kind is UpstreamKind.PUBLIC
        return Source.PUBLIC if is_public else Source.NODE


class Origins:
    """The origins of one process. `specs` are the upstreams as of now, by name; `states` what
    workers say of them, by the same names."""

    def __init__(
        self, specs: Callable[[], Mapping[str, UpstreamSpec]], *, states: States, pot: Pot
    ) -> None:
        self._specs, self._states, self._pot = specs, states, pot
        self._origins: dict[str, _Origin] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, body: bytes, route: Route, *, tenant: str, weight: float) -> Got:
        """POST `body` to the first origin of `route` that is well, and once more to another.

        Reads only, so asking the next one is safe. Raises HttpError: 429 when the public budget
        is spent or the public API says so, 502 when nobody answers within `DEADLINE_S`, 503 when
        there is nobody to ask.
        """
        began_s = time.monotonic()
        deadline_s = began_s + DEADLINE_S
        origins = self._candidates(route)
        got: Got | None = None
        spent: BudgetSpent | None = None
        tries = 0
        for place, origin in enumerate(origins):
            if tries == TRIES:
                break
            if origin.source is Source.PUBLIC and (wait_s := await self._pot.take(tenant, weight)):
                spent = BudgetSpent(tenant, wait_s)
                continue
            tries += 1
            left_s = deadline_s - time.monotonic()
            has_next = tries < TRIES and place + 1 < len(origins)
            # One that hangs must leave time for the other.
            answered = await self._try(origin, body, left_s / 2 if has_next else left_s)
            if answered is not None and origin.source is Source.PUBLIC:
                # By its length, which the exchange counts to our address too.
                if more := weight_of_answer(orjson.loads(body), answered.answer.body):
                    self._pot.owe(tenant, more)
            got = answered or got
            if answered is not None and _is_final(answered):
                return answered
        if got is None or got.answer.status == 429:
            error = spent or self._nobody(got, is_any=bool(origins))
            error.upstream_s = time.monotonic() - began_s if tries else None
            try:
                raise error
            finally:
                del error, spent  # it keeps this frame, which would keep it for a collector
        return got

    async def close(self) -> None:
        """Close the connections."""
        for origin in self._origins.values():
            await origin.endpoint.close()

    def _candidates(self, route: Route) -> list[_Origin]:
        """Those that are well, in the order they are asked."""
        now_s = time.monotonic()
        known = self._known()
        found = []
        for name, origin in self._current().items():
            if origin.source in route.sources and now_s >= origin.cool_until_s:
                if origin.source is Source.PUBLIC or _is_well(known.get(name, ())):
                    found.append(origin)
        order = {source: place for place, source in enumerate(route.sources)}
        # Of equals the heaviest, then the least busy.
        found.sort(key=lambda o: (order[o.source], -o.spec.weight, o.asked))
        found.sort(key=lambda o: now_s < o.wary_until_s)  # whatever else, those last
        return found

    def _current(self) -> dict[str, _Origin]:
        specs = self._specs()
        for name in [n for n, o in self._origins.items() if specs.get(n) != o.spec]:
            gone = self._origins.pop(name)
            task = asyncio.ensure_future(gone.endpoint.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for name, spec in specs.items():
            if name not in self._origins and (endpoint := _endpoint(spec)) is not None:
                self._origins[name] = _Origin(name, spec, endpoint)
        return self._origins

    def _known(self) -> dict[str, list[Mapping[str, Any]]]:
        """What each worker says of each upstream."""
        known: dict[str, list[Mapping[str, Any]]] = {}
        for sources in self._states():
            for name, state in sources.items():
                known.setdefault(name, []).append(state)
        return known

    def _height(self, origin: _Origin) -> int | None:
        if origin.source is Source.PUBLIC:
            return None
        states = self._known().get(origin.name, ())
        return max((state.get("height") or 0 for state in states), default=0) or None

    async def _try(self, origin: _Origin, body: bytes, within_s: float) -> Got | None:
        height = self._height(origin)
        began_s = time.monotonic()
        origin.asked += 1
        try:
            async with asyncio.timeout(within_s):
                answer = await origin.endpoint.post(body, deadline_s=within_s)
        except (Failed, TimeoutError):
            ORIGIN_REQUESTS.labels("failed").inc()
            origin.wary_until_s = time.monotonic() + WARY_S
            return None
        finally:
            origin.asked -= 1
        if answer.status == 429:
            pause_s = min(MAX_COOL_S, answer.retry_after_s or COOL_S)
            origin.cool_until_s = time.monotonic() + pause_s
        elif answer.status == 200 and not answer.content_type.startswith(b"application/json"):
            # A page of a proxy before it.
            ORIGIN_REQUESTS.labels("bad_reply").inc()
            origin.wary_until_s = time.monotonic() + WARY_S
            return None
        ORIGIN_REQUESTS.labels(str(answer.status)).inc()
        return Got(answer, origin.source, height, time.monotonic() - began_s)

    def _nobody(self, got: Got | None, *, is_any: bool) -> HttpError:
        if got is not None:
            return HttpError(
                429,
                "upstream_busy",
                "The public API says that it is asked too much. Try again shortly.",
                headers=[(b"retry-after", str(int(got.answer.retry_after_s or COOL_S)).encode())],
            )
        if is_any:
            text = f"No upstream answered within {DEADLINE_S:.0f} s. Try again."
            return HttpError(502, "upstream_unavailable", text)
        if self._origins:
            text = "Every upstream that serves this is behind, stalled or resting. Try again."
            return HttpError(503, "upstream_stale", text, headers=[(b"retry-after", b"2")])
        text = "No upstream with /info is configured (RELAY_UPSTREAMS: info=…)."
        return HttpError(503, "no_origin", text)


def _is_final(got: Got) -> bool:
    """Whether another origin would say nothing better: a node serves fewer types than the public
    API, whose own refusals are the truth."""
    status = got.answer.status
    return status < 500 and status != 429 and (status != 422 or got.source is Source.PUBLIC)


def _is_well(states: Sequence[Mapping[str, Any]]) -> bool:
    """By the worker that sees it best; of one that nobody reads nothing is known."""
    return not states or any(
        not state.get("stalled")
        and (state.get("lag") or 0) <= MAX_LAG
        and ((silent_s := state.get("silent_s")) is None or silent_s <= STALL_S)
        for state in states
    )


def _endpoint(spec: UpstreamSpec) -> Endpoint | None:
    if spec.info_url:
        return HttpEndpoint(spec.info_url)
    if spec.kind is UpstreamKind.GATEWAY:
        return GatewayEndpoint(spec.address, spec.tls, "Info")
    return None
