"""Who calls, and whether they are let in: what a call's metadata says of its key and sender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

from gateway.grpc import metrics
from streaming import runtime
from tenants.admission.access import Caller
from tenants.admission.caps import BYTES, MESSAGES
from tenants.admission.errors import Denied, Draining
from tenants.admission.limiter import Rate
from tenants.admission.presented import peer_address
from tenants.admission.principal import Network, Principal, Scope

Pairs = Iterable[tuple[str, str | bytes]]

#: Of a key's rate: as much as one `/info` request.
CALL_WEIGHT = 1
#: Weight a minute of a key without a rate of its own or of its plan, and at once, of unary calls,
#: as `/info` has.
DEFAULT_RATE = Rate(1_200, 1_200)


def key_of(metadata: Pairs) -> str | None:
    """The raw key: `x-api-key`, else `x-token`, else `authorization: Bearer`; None: there is
    none."""
    found: dict[str, str] = {}
    for name, value in metadata:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if name in ("x-api-key", "x-token"):
            found.setdefault(name, text.strip())
        elif name == "authorization" and text[:7].lower() == "bearer ":
            found.setdefault(name, text[7:].strip())
    return found.get("x-api-key") or found.get("x-token") or found.get("authorization")


def caller_of(peer: str, metadata: Pairs, *, trusted: Sequence[Network]) -> Caller:
    """Who sends the call. `peer` is gRPC's: `ipv4:192.0.2.7:4711`, `ipv6:%5B::1%5D:4711`."""
    _, _, rest = peer.partition(":")
    address = unquote(rest).rpartition(":")[0].strip("[]")
    headers = [
        (name.encode(), value.encode("latin-1", "replace") if isinstance(value, str) else value)
        for name, value in metadata
    ]
    return Caller(address=peer_address(address, headers, trusted=trusted))


class Door:
    """Lets calls in. Every method of the server goes through it, but for health checks."""

    def __init__(self, current: runtime.Runtime, *, trusted: Sequence[Network] = ()) -> None:
        self.runtime = current
        self._trusted = trusted

    async def admit(self, context: Any, method: str) -> tuple[Principal, Caller]:
        """Who calls. Raises Denied."""
        metadata = context.invocation_metadata() or ()
        try:
            if self.runtime.is_draining:
                raise Draining
            return await self._authenticate(context.peer(), metadata)
        except Denied as denied:
            metrics.CALLS.labels(method, denied.code).inc()
            raise

    async def _authenticate(self, peer: str, metadata: Pairs) -> tuple[Principal, Caller]:
        caller = caller_of(peer, metadata, trusted=self._trusted)
        principal = await self.runtime.admission.authenticate(
            key_of(metadata), scope=Scope.GRPC, caller=caller
        )
        return principal, caller

    async def admit_stream(self, context: Any, method: str) -> tuple[Principal, Caller]:
        """Who opens a stream; it costs as a handshake does. Raises Denied."""
        principal, caller = await self.admit(context, method)
        await self.runtime.admission.charge(principal, CALL_WEIGHT)
        self.runtime.admission.check_quota(principal, MESSAGES, BYTES)
        return principal, caller
