"""`/exchange` and `/<key>/exchange`."""

from __future__ import annotations

from collections.abc import Callable

from gateway.exchange.asked import MAX_BODY_BYTES
from gateway.exchange.service import Exchange
from gateway.http.call import Call, Reply
from gateway.http.errors import JSON_HEADERS
from streaming import runtime
from tenants.admission.presented import caller_of
from tenants.admission.principal import Scope


class ExchangeDoor:
    """Signed actions, passed on as they came."""

    name = "exchange"

    def __init__(self, service: Callable[[], Exchange]) -> None:
        """`service` gives the running process's."""
        self._service = service

    async def reply(self, call: Call) -> Reply:
        """Implements `Door`."""
        admission = runtime.current().admission
        call.principal = principal = await admission.authenticate(
            call.raw_key, scope=Scope.EXCHANGE, caller=caller_of(call.scope)
        )
        body = await call.body(max_bytes=MAX_BODY_BYTES)
        answer, told = await self._service().serve(body, principal, call=call)
        headers = [(b"content-type", answer.content_type), *JSON_HEADERS[1:], *told]
        return Reply(answer.status, headers, answer.body)
