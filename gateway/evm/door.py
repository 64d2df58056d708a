"""`POST /<key>/evm`."""

from __future__ import annotations

from collections.abc import Callable

from gateway.evm.service import Evm
from gateway.http.call import Call, Reply
from gateway.http.concurrency import Concurrency
from gateway.http.errors import JSON_HEADERS, Headers
from streaming import runtime
from tenants.admission.presented import caller_of
from tenants.admission.principal import Scope

#: A signed transaction of 128 KiB in hexadecimal, and what is around it.
MAX_BODY_BYTES = 512 * 1024


class EvmDoor:
    """JSON-RPC over HTTP: an error of a call is an answer, 200; what the key may not is not."""

    name = "evm"

    def __init__(self, service: Callable[[], Evm]) -> None:
        """`service` gives the running process's."""
        self._service = service
        self._concurrency = Concurrency()

    async def reply(self, call: Call) -> Reply:
        """Implements `Door`."""
        service = self._service()
        call.principal = await runtime.current().admission.authenticate(
            call.raw_key, scope=Scope.EVM, caller=caller_of(call.scope)
        )
        body = await call.body(max_bytes=MAX_BODY_BYTES)
        with self._concurrency.of(call.principal):
            outcome = await service.serve(body, call.principal, call=call)
        told: Headers = [(b"x-relay-height", b"%d" % service.nodes.head)]
        for name, value in ((b"x-relay-source", outcome.source), (b"x-relay-cache", outcome.cache)):
            if value:
                told.append((name, value.encode()))
        headers = [*JSON_HEADERS, *(outcome.standing or []), *told]
        return Reply(200, headers, outcome.body, outcome.code)
