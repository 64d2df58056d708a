"""From a request to its answer: our own data, what was answered before, who asks the same now, an
upstream."""

from __future__ import annotations

import time
from typing import Any, Protocol

import orjson

from gateway.http import own, served
from gateway.http.cache import Cache
from gateway.http.errors import HttpError
from gateway.http.flights import Flights
from gateway.http.history_port import History, NoHistory
from gateway.http.origins import BudgetSpent, Got
from gateway.http.routes import EXPLORER, NODE_LOCAL, ROUTES, Route, Source, route_of
from gateway.http.served import Served
from streaming import runtime


class Asks(Protocol):
    """Upstreams."""

    async def ask(self, body: bytes, route: Route, *, tenant: str, weight: float) -> Got:
        """An upstream's answer. Raises HttpError."""


class Router:
    """Answers info requests, whoever sent them; one per process."""

    def __init__(
        self, current: runtime.Runtime, origins: Asks, *, history: History | None = None
    ) -> None:
        self._runtime = current
        self._origins = origins
        self._history = history or NoHistory()
        self._cache: Cache[Served] = Cache()
        self._flights: Flights[Served] = Flights()

    async def answer(
        self, kind: str, payload: dict[str, Any], *, tenant: str, weight: float
    ) -> Served:
        """The answer to one request of a type. `tenant` and `weight` are for the public budget.
        Raises HttpError."""
        if kind in NODE_LOCAL or "outPath" in payload:
            raise HttpError(403, "not_served", f"{kind} is not served here.")
        if kind in EXPLORER:
            text = f"{kind} is a request of the exchange's explorer, not of /info."
            raise HttpError(422, "not_served", text)
        route = route_of(kind)
        if Source.HUB in route.sources:
            ours = await own.answer(self._runtime, kind, payload)
            if ours is not None:
                return ours
        key = _key(payload)
        kept = self._cache.get(key) if route.ttl_s else None
        if kept is not None and time.monotonic() - kept.made_s <= route.ttl_s:
            return kept.as_(served.HIT)
        is_usable = kept is not None and time.monotonic() - kept.made_s <= route.stale_s
        try:
            fetched = await self._fetch(key, kind, payload, route, tenant=tenant, weight=weight)
        except HttpError as error:
            if error.status < 500 and error.status != 429:
                raise
            if kept is not None and is_usable:
                return kept.as_(served.STALE)
            if Source.HUB in route.sources:
                old = await own.answer(self._runtime, kind, payload, may_be_old=True)
                if old is not None:
                    return old
            raise
        if fetched.answer.status >= 500 and kept is not None and is_usable:
            return kept.as_(served.STALE)
        return fetched

    async def _fetch(
        self,
        key: bytes,
        kind: str,
        payload: dict[str, Any],
        route: Route,
        *,
        tenant: str,
        weight: float,
    ) -> Served:
        """One request upstream for all who ask the same now."""
        while key in self._flights:
            try:
                return (await self._flights.join(key)).as_(served.SHARED)
            except BudgetSpent as spent:
                if spent.tenant == tenant:
                    raise
                # Of who asked first: we may have something left.
        if self._flights.is_full(tenant):
            text = "Too many requests wait for upstreams. Try again shortly."
            raise HttpError(503, "overloaded", text, headers=[(b"retry-after", b"1")])
        asked = self._ask(key, kind, payload, route, tenant=tenant, weight=weight)
        return await self._flights.begin(key, asked, tenant=tenant)

    async def _ask(
        self,
        key: bytes,
        kind: str,
        payload: dict[str, Any],
        route: Route,
        *,
        tenant: str,
        weight: float,
    ) -> Served:
        if Source.HISTORY in route.sources:
            recorded = await self._history.answer(kind, payload)
            if recorded is not None:
                return Served(recorded, Source.HISTORY, None, time.monotonic())
        asked_s = time.monotonic()
        # What was checked is what is sent: a repeated key may mean another to another parser.
        got = await self._origins.ask(orjson.dumps(payload), route, tenant=tenant, weight=weight)
        cache = served.MISS if route.ttl_s else served.NONE
        # True when it was asked for at the latest: the way back is age as well.
        made_s = max(asked_s, time.monotonic() - got.took_s)
        answer = Served(got.answer, got.source, got.height, made_s, cache, got.took_s)
        if route.ttl_s and got.answer.status == 200:
            self._cache.put(key, answer)
        return answer


def _key(payload: dict[str, Any]) -> bytes:
    """What is the same for two who ask the same: addresses are read in either case."""
    user = payload.get("user")
    same = payload if not isinstance(user, str) else {**payload, "user": user.lower()}
    return orjson.dumps(same, option=orjson.OPT_SORT_KEYS)


def label_of(kind: str) -> str:
    """A type as metrics and records name it: one that no table has is not of ours to name."""
    return kind if kind in ROUTES or kind in NODE_LOCAL or kind in EXPLORER else "(unknown)"
