"""`/sandbox/<key>/info` and `/sandbox/<key>/exchange`: the same key, limits of its own, no charge.

What is asked here is free: it costs the relay's operator nothing upstream, and a customer who tests
a bot should test it long. So it is bounded instead, apart from everything that is real.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.exchange import answers
from gateway.exchange.asked import MAX_BODY_BYTES
from gateway.http.call import Call, Reply, json_body
from gateway.http.concurrency import Concurrency
from gateway.http.errors import JSON_HEADERS
from gateway.http.router import label_of
from gateway.http.weights import weight_of
from gateway.sandbox.origin import Sandbox
from streaming import runtime
from tenants.admission.access import Caller
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import NotInPlan, RateLimited, ScopeMissing
from tenants.admission.limiter import Rate
from tenants.admission.presented import caller_of
from tenants.admission.principal import Principal, Scope
from tenants.admission.rate_headers import Headers, rate_headers

#: Weight of a tenant in the sandbox, as the exchange allows an address; handshakes weigh 1.
RATE = Rate(1_200, 1_200)
#: Of one tenant at one time, over HTTP.
MAX_AT_ONCE = 50


async def admit(
    admission: AdmissionControl, raw_key: str | None, caller: Caller, *, real: str
) -> tuple[Principal, str]:
    """Who it is, and the scope that let them in: that of the sandbox, or that of the real door,
    which says more. The plan must have the product `sandbox`. Raises a Denied."""
    scope: str = Scope.SANDBOX
    try:
        principal = await admission.authenticate(raw_key, scope=scope, caller=caller)
    except ScopeMissing:
        scope = real
        principal = await admission.authenticate(raw_key, scope=scope, caller=caller)
    products = principal.limits.products
    if products is not None and Scope.SANDBOX not in products:
        raise NotInPlan("product", Scope.SANDBOX, products)
    return principal, scope


async def charge(admission: AdmissionControl, principal: Principal, weight: float) -> Headers:
    """Spend of the tenant's rate in the sandbox, which is nobody else's. Raises RateLimited."""
    bucket = f"sandbox:{principal.tenant_id}"
    wait_s = await admission.rates.take(bucket, RATE, weight)
    standing = rate_headers([("sandbox", admission.rates.level(bucket, RATE))])
    if wait_s:
        raise RateLimited(retry_after_s=wait_s, standing=standing)
    return standing


class SandboxDoor:
    """One of the two paths; `real` is the scope of its real twin."""

    name = "sandbox"

    def __init__(self, sandbox: Callable[[], Sandbox], *, real: Scope) -> None:
        """`sandbox` gives the running process's."""
        self._sandbox = sandbox
        self._real = real
        self._concurrency = Concurrency(most=MAX_AT_ONCE)

    async def reply(self, call: Call) -> Reply:
        """Implements `Door`."""
        admission, sandbox = runtime.current().admission, self._sandbox()
        sandbox.check()
        call.principal, _ = await admit(
            admission, call.raw_key, caller_of(call.scope), real=self._real
        )
        body = await call.body(max_bytes=MAX_BODY_BYTES)
        with self._concurrency.of(call.principal):
            if self._real is Scope.INFO:
                return await self._read(call, call.principal, sandbox, body)
            call.kind = "(action)"
            standing = await charge(admission, call.principal, 1)
            passed = await sandbox.exchange(body)
            if passed.answer is None:
                raise answers.without_answer(passed)
        headers = [(b"content-type", passed.answer.content_type), *JSON_HEADERS[1:], *standing]
        return Reply(passed.answer.status, headers, passed.answer.body)

    async def _read(self, call: Call, principal: Principal, sandbox: Sandbox, body: bytes) -> Reply:
        payload = json_body(body)
        kind = payload.get("type") if isinstance(payload, dict) else None
        call.kind = label_of(kind) if isinstance(kind, str) else ""
        standing = await charge(runtime.current().admission, principal, weight_of(payload))
        answer = await sandbox.info(payload)
        headers = [(b"content-type", answer.content_type), *JSON_HEADERS[1:], *standing]
        return Reply(answer.status, headers, answer.body)
