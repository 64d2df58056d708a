"""`POST /<key>/info`: admitted, charged, answered by the router and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from gateway.http import metrics
from gateway.http.call import Call, Reply, json_body
from gateway.http.concurrency import Concurrency
from gateway.http.errors import JSON_HEADERS, Headers, HttpError
from gateway.http.router import Router, label_of
from gateway.http.weights import weight_of, weight_of_answer
from gateway.upstreams.posts import Answer
from streaming import runtime
from tenants.admission.caps import BYTES, REQUESTS
from tenants.admission.limiter import Rate
from tenants.admission.presented import caller_of
from tenants.admission.principal import Principal, Scope

#: The largest request documented is a few hundred bytes.
MAX_BODY_BYTES = 64 * 1024
#: Weight a minute of a key without a rate of its own or of its plan, and at once, as the exchange
#: allows an address.
PER_MINUTE, BURST = 1_200, 1_200
DEFAULT_RATE = Rate(PER_MINUTE, BURST)
#: The channel its use is counted on.
CHANNEL = "info"


class Info:
    """Answers info requests, over whatever they came."""

    def __init__(self, current: runtime.Runtime, router: Router) -> None:
        self._runtime = current
        self._router = router

    async def serve(
        self,
        payload: Any,
        principal: Principal,
        *,
        problem: HttpError | None = None,
        call: Call | None = None,
    ) -> tuple[Answer, Headers]:
        """Charge, answer and count one request; with the header fields that say how the rates
        stand, and where the answer comes from. `problem` is why there is no payload: that costs,
        and is no use. `call` is told of what is found out. Raises HttpError, or a Denied."""
        admission, meter = self._runtime.admission, self._runtime.meter
        admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
        weight = weight_of(payload)
        standing = await admission.charge(principal, weight, default=DEFAULT_RATE)
        try:
            if problem is not None:
                raise problem
            answer, told = await self.answer(payload, principal, weight=weight, call=call)
        except orjson.JSONEncodeError as error:
            nested = "The request is nested too deeply."
            raise HttpError(400, "bad_json", nested, headers=standing) from error
        except HttpError as error:
            error.headers = [*error.headers, *standing]
            raise
        finally:
            del problem  # raised, it keeps this frame
        if answer.status == 200 and (more := weight_of_answer(payload, answer.body)):
            standing = admission.owe(principal, more, default=DEFAULT_RATE)
        slot = meter.slot(principal.key_id, CHANNEL, reason=principal.free_for)
        meter.add_requests(slot, 1)
        meter.add(slot, 0, len(answer.body))
        return answer, [*standing, *told]

    async def answer(
        self, payload: Any, principal: Principal, *, weight: float, call: Call | None = None
    ) -> tuple[Answer, Headers]:
        """The answer to one request, and where it comes from. Raises HttpError."""
        kind = payload.get("type") if isinstance(payload, dict) else None
        if not isinstance(kind, str):
            raise HttpError(
                422, "bad_request", "The body must be a JSON object with a string 'type'."
            )
        if call is not None:
            call.kind = label_of(kind)
        began_s = time.perf_counter()
        try:
            served = await self._router.answer(
                kind, payload, tenant=principal.tenant_slug, weight=weight
            )
        except HttpError as error:
            if call is not None and error.upstream_s is not None:
                call.asked_upstream(error.upstream_s)
            raise
        if call is not None and served.took_s is not None:
            call.asked_upstream(served.took_s)
        by, status = served.source.value, served.answer.status
        metrics.SECONDS.labels(by).observe(time.perf_counter() - began_s)
        metrics.REQUESTS.labels(str(status), by, served.cache).inc()
        return served.answer, served.headers()


class InfoDoor:
    """`/info` and `/<key>/info`."""

    name = "info"

    def __init__(self, service: Callable[[], Info]) -> None:
        """`service` gives the running process's."""
        self._service = service
        self._concurrency = Concurrency()

    async def reply(self, call: Call) -> Reply:
        """Implements `Door`."""
        admission = runtime.current().admission
        call.principal = principal = await admission.authenticate(
            call.raw_key, scope=Scope.INFO, caller=caller_of(call.scope)
        )
        # Read before it is charged: what it weighs is in it.
        payload, problem = None, None
        try:
            payload = json_body(await call.body(max_bytes=MAX_BODY_BYTES))
        except HttpError as error:
            problem = error
        try:
            with self._concurrency.of(principal):
                answer, told = await self._service().serve(
                    payload, principal, problem=problem, call=call
                )
        finally:
            del problem  # it keeps this frame
        headers = [(b"content-type", answer.content_type), *JSON_HEADERS[1:], *told]
        code = "upstream_refused" if answer.status >= 400 else ""
        return Reply(answer.status, headers, answer.body, code)
