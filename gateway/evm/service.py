"""From a call to its answer: refused, charged, from memory, with others who ask the same, or from a
node."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.evm import blocks, jsonrpc
from gateway.evm.jsonrpc import (
    BAD_PARAMS,
    INTERNAL,
    INVALID,
    LIMIT,
    NOT_FOUND,
    NULL,
    UNAVAILABLE,
    Call,
    RpcError,
)
from gateway.evm.methods import Keep, Method, Permission, label_of, method_of
from gateway.evm.metrics import CALLS
from gateway.evm.nodes import Nodes, Told
from gateway.http import call as http
from gateway.http import served
from gateway.http.cache import Cache
from gateway.http.flights import Flights
from streaming import runtime
from tenants.admission.caps import BYTES, REQUESTS
from tenants.admission.errors import Denied, RateLimited
from tenants.admission.limiter import Rate
from tenants.admission.principal import Principal
from tenants.admission.rate_headers import Headers

#: Weight a minute, and at once, of a key without a rate of its own or of its plan.
DEFAULT_RATE = Rate(1_200, 1_200)
CHANNEL = "evm"
SENDS = "eth_sendRawTransaction"
MAX_CACHE_BYTES = 64 * 1024 * 1024
#: A block may be shown by one node before another has it; two more, and all have.
SETTLED_BLOCKS = 2
#: How long an answer about a block is kept: until then, and after.
YOUNG_S, SETTLED_S, CHAIN_S, HEAD_S = 5.0, 600.0, 600.0, 2.0
#: Of a raw transaction, in hexadecimal: 128 KiB is the largest that nodes take.
MAX_TX_CHARS = 2 * 128 * 1024 + 2
_TX = re.compile(r"0x(?:[0-9a-fA-F]{2})+\Z")
_IN_BLOCK = re.compile(rb'"(?:blockNumber|number)":"0x([0-9a-fA-F]+)"')


@dataclass(frozen=True, slots=True)
class Answered:
    """What one call got: a JSON result, and how. `made_s` by the monotonic clock."""

    result: bytes
    source: str
    cache: str
    until_s: float = 0.0
    made_s: float = 0.0
    took_s: float | None = None

    @property
    def size_bytes(self) -> int:
        """Implements `cache.Kept`."""
        return len(self.result)


@dataclass(slots=True)
class Outcome:
    """What a whole body got."""

    body: bytes
    code: str = ""
    source: str = ""
    cache: str = ""
    took_s: float | None = None
    standing: Headers | None = None
    denied: Denied | None = None


class Evm:
    """JSON-RPC for everybody, one per process."""

    def __init__(self, current: runtime.Runtime, nodes: Nodes) -> None:
        self._runtime = current
        self.nodes = nodes
        self._cache: Cache[Answered] = Cache(max_bytes=MAX_CACHE_BYTES)
        self._flights: Flights[Answered] = Flights()

    async def serve(
        self, body: bytes, principal: Principal, *, call: http.Call | None = None
    ) -> Outcome:
        """Answer the calls in a body, in their order, each with its own error. `call` is told of
        what is found out. Raises a Denied when nothing of it may be asked."""
        self._runtime.admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
        try:
            calls, is_batch = jsonrpc.parse(body)
        except RpcError as error:
            await self.charge(principal, 1)
            return Outcome(jsonrpc.failure(NULL, error.body), code=code_of(error))
        outcome = Outcome(b"")
        if call is not None:
            call.kind = label_of(calls[0].method) if not is_batch else "batch"
        if any(one.method == SENDS for one in calls):
            # One after the other: what comes after it may be about it.
            answers = [await self._answer(one, principal, outcome) for one in calls]
        else:
            each = (self._answer(one, principal, outcome) for one in calls)
            answers = list(await asyncio.gather(*each))
        if not is_batch and outcome.denied is not None:
            try:
                raise outcome.denied
            finally:
                del outcome  # it keeps what keeps this frame
        outcome.body = b"[" + b",".join(answers) + b"]" if is_batch else answers[0]
        self.count(principal, sum(one.error is None for one in calls), len(outcome.body))
        if call is not None and outcome.took_s is not None:
            call.asked_upstream(outcome.took_s)
        return outcome

    async def charge(self, principal: Principal, weight: int) -> Headers:
        """Spend of the key's rates. Raises RateLimited."""
        return await self._runtime.admission.charge(principal, weight, default=DEFAULT_RATE)

    def count(self, principal: Principal, requests: int, size_bytes: int) -> None:
        """What was answered counts."""
        meter = self._runtime.meter
        slot = meter.slot(principal.key_id, CHANNEL)
        meter.add_requests(slot, requests)
        meter.add(slot, 0, size_bytes)

    async def _answer(self, call: Call, principal: Principal, outcome: Outcome) -> bytes:
        """The whole answer to one call. Never raises."""
        label = label_of(call.method)
        try:
            method = permitted(call)
            outcome.standing = await self.charge(principal, method.weight)
            answered = await self.result(
                call.method, method, call.params, tenant=principal.tenant_slug
            )
        except RateLimited as denied:
            call.error = RpcError(
                LIMIT, str(denied), retryAfter=round(denied.retry_after_s or 1, 1)
            )
            outcome.denied = denied.with_traceback(None)  # which keeps the outcome
        except RpcError as error:
            call.error = error.with_traceback(None)  # which keeps the call
            if error.took_s is not None:
                outcome.took_s = max(error.took_s, outcome.took_s or 0.0)
        except NodeError as error:
            # It answered: that is a use, and its own words pass.
            outcome.code = outcome.code or "upstream_error"
            CALLS.labels(label, "upstream_error").inc()
            outcome.source, outcome.took_s = error.told.source.value, error.told.took_s
            return jsonrpc.failure(call.id, error.told.error)
        if call.error is not None:
            outcome.code = outcome.code or code_of(call.error)
            CALLS.labels(label, code_of(call.error)).inc()
            return jsonrpc.failure(call.id, call.error.body)
        CALLS.labels(label, answered.cache).inc()
        outcome.source = outcome.source or answered.source
        # Of several the one that was the most work.
        if not outcome.cache or answered.cache not in (served.HIT, served.SHARED):
            outcome.cache = answered.cache
        if answered.took_s is not None:
            outcome.took_s = max(answered.took_s, outcome.took_s or 0.0)
        return jsonrpc.result(call.id, answered.result)

    async def result(
        self, name: str, method: Method, params: list[Any], *, tenant: str
    ) -> Answered:
        """The result of a permitted method. Raises RpcError, or NodeError."""
        if method.permission is Permission.SEND:
            return await self._send(name, params, tenant=tenant, weight=method.weight)
        head = await self.nodes.current_head()
        if name == "eth_blockNumber":
            return Answered(b'"0x%x"' % head, "node", served.HIT)
        params, number = blocks.settled(name, method, params, head)
        try:
            key = orjson.dumps([name, params, head if method.keep is Keep.HEAD else 0])
            body = jsonrpc.request(name, params)
        except (orjson.JSONEncodeError, RecursionError) as error:
            raise RpcError(BAD_PARAMS, "params are nested too deeply.") from error
        now_s = time.monotonic()
        if method.keep is not Keep.NEVER:
            kept = self._cache.get(key)
            if kept is not None and now_s < kept.until_s:
                return Answered(kept.result, kept.source, served.HIT, made_s=kept.made_s)
        if key in self._flights:
            found = await self._flights.join(key)
            return Answered(found.result, found.source, served.SHARED, made_s=found.made_s)
        if self._flights.is_full(tenant):
            raise RpcError(LIMIT, "Too many calls wait for nodes. Try again shortly.", retryAfter=1)
        work = self._ask(key, body, method, number, tenant=tenant)
        return await self._flights.begin(key, work, tenant=tenant)

    async def _ask(
        self, key: bytes, body: bytes, method: Method, number: int | None, *, tenant: str
    ) -> Answered:
        made_s = time.monotonic()
        told = await self.nodes.ask(body, number=number, tenant=tenant, weight=1)
        if told.error:
            raise NodeError(told)
        for_s = self._kept_s(method, number, told.result)
        cache = served.MISS if for_s else served.NONE
        answered = Answered(
            told.result, told.source.value, cache, made_s + for_s, made_s, told.took_s
        )
        if for_s:
            self._cache.put(key, answered)
        return answered

    def _kept_s(self, method: Method, number: int | None, result: bytes) -> float:
        """How long a result may be given again. What is not there yet may be a moment later."""
        match method.keep:
            case Keep.CHAIN:
                return CHAIN_S
            case Keep.HEAD:
                return HEAD_S
            case Keep.BLOCK if number is not None and result != NULL:
                if number > self.nodes.head:
                    return 0.0
                return SETTLED_S if number <= self.nodes.head - SETTLED_BLOCKS else YOUNG_S
            case Keep.FOUND if result != NULL:
                found = _IN_BLOCK.search(result)
                is_old = found and int(found[1], 16) <= self.nodes.head - SETTLED_BLOCKS
                return SETTLED_S if is_old else 0.0
        return 0.0

    async def _send(self, name: str, params: list[Any], *, tenant: str, weight: int) -> Answered:
        if len(params) != 1 or not isinstance(params[0], str) or not _TX.match(params[0]):
            raise RpcError(BAD_PARAMS, f'{name} takes one signed transaction, "0x…".')
        if len(params[0]) > MAX_TX_CHARS:
            raise RpcError(BAD_PARAMS, "The transaction is larger than 128 KiB.")
        await self.nodes.current_head()
        told = await self.nodes.send(jsonrpc.request(name, params), tenant=tenant, weight=1)
        if told.error:
            raise NodeError(told)
        return Answered(told.result, told.source.value, served.NONE, took_s=told.took_s)


class NodeError(Exception):
    """A node answered with an error: its own words pass."""

    def __init__(self, told: Told) -> None:
        super().__init__("a node's error")
        self.told = told


def permitted(call: Call, *, on_socket: bool = False) -> Method:
    """The row of a call that may be made. Raises RpcError."""
    if call.error is not None:
        raise call.error
    method = method_of(call.method)
    if method is None:
        raise RpcError(NOT_FOUND, f"The method {call.method} does not exist.")
    if method.permission is Permission.REFUSED:
        raise RpcError(NOT_FOUND, f"The method {call.method} is not served here.")
    if method.permission is Permission.SUBSCRIBE and not on_socket:
        raise RpcError(NOT_FOUND, f"{call.method} needs a WebSocket: wss://…/<key>/evm.")
    return method


_CODES = {
    jsonrpc.PARSE: "bad_json",
    INVALID: "bad_request",
    NOT_FOUND: "not_served",
    BAD_PARAMS: "bad_params",
    INTERNAL: "internal",
    LIMIT: "rate_limited",
    UNAVAILABLE: "upstream_unavailable",
}


def code_of(error: RpcError) -> str:
    """As records name it."""
    return str(error.data.get("reason") or _CODES.get(error.code, "rpc_error"))
