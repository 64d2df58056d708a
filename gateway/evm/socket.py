"""A WebSocket at `/<key>/evm`: JSON-RPC with subscriptions to new heads and logs.

Events are never dropped in silence.
"""

from __future__ import annotations

import secrets
from typing import Any

import structlog

from gateway.evm import jsonrpc
from gateway.evm.blocks import LogFilter
from gateway.evm.heads import Follower, Heads
from gateway.evm.jsonrpc import BAD_PARAMS, LIMIT, Call, RpcError
from gateway.evm.methods import label_of
from gateway.evm.service import CHANNEL, Evm, code_of, permitted
from gateway.http import call as http
from gateway.http.edge import Note, entry_of, over_socket
from gateway.http.socket import PlainSocket
from streaming import runtime
from streaming.core.batch import Batch
from streaming.core.counted import counted
from streaming.core.outbox import Frame
from tenants.admission.access import Caller
from tenants.admission.caps import BYTES, REQUESTS, Standing
from tenants.admission.errors import Denied
from tenants.admission.principal import Scope

log = structlog.get_logger(__name__)

HANDSHAKE_WEIGHT = 1
#: Calls of one connection that wait for their answer.
MAX_PENDING = 100
#: Whatever the plan: each costs a comparison with every log.
MAX_SUBSCRIPTIONS = 1_000
#: A notification counts its bytes: a subscription is paid by what it brings.
_COUNTED = counted(CHANNEL, messages=0)


class EvmSocket(PlainSocket):
    """One connection."""

    door = "evm"

    def __init__(self, current: runtime.Runtime, evm: Evm, heads: Heads, *, note: Note) -> None:
        super().__init__(current, note=note)
        self._evm, self._heads = evm, heads
        self._following: set[str] = set()

    async def admit(self, call: http.Call, caller: Caller) -> str:
        """Implements `PlainSocket`."""
        admission = self._runtime.admission
        call.principal = principal = await admission.authenticate(
            call.raw_key, scope=Scope.EVM, caller=caller
        )
        await self._evm.charge(principal, HANDSHAKE_WEIGHT)
        admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
        return Scope.EVM

    def covers(self, standing: Standing) -> bool:
        """Implements `PlainSocket`."""
        return standing.cap.covers(CHANNEL)

    @property
    def topic_count(self) -> int:
        """How many subscriptions it has."""
        return len(self._following)

    # --- inbound ---

    def take(self, body: bytes) -> None:
        """Implements `PlainSocket`."""
        if self.pending >= MAX_PENDING:
            error = RpcError(LIMIT, f"{MAX_PENDING} calls wait for their answer: read those first.")
            self._failed(over_socket(self.door, self.current_principal), code_of(error), 429)
            self.say(jsonrpc.failure(jsonrpc.NULL, error.body))
        else:
            self.begin(self._answer(body))

    def _failed(self, call: http.Call, code: str, status: int = 200) -> None:
        """A record, as of what fails over HTTP."""
        self._note(entry_of(call, status=status, code=code))

    async def _answer(self, body: bytes) -> None:
        call = over_socket(self.door, self.current_principal)
        try:
            answer, code = await self._answer_to(body, call)
            if code:
                self._failed(call, code)
        except Denied as denied:
            self._failed(call, denied.code, denied.http_status)
            error = RpcError(LIMIT, str(denied), reason=denied.code)
            answer = jsonrpc.failure(jsonrpc.NULL, error.body)
        except Exception:
            log.exception("evm_call_failed", request=call.id, kind=call.kind)
            self._failed(call, "internal", 500)
            error = RpcError(jsonrpc.INTERNAL, "Internal error.")
            answer = jsonrpc.failure(jsonrpc.NULL, error.body)
        self.say(answer)

    async def _answer_to(self, body: bytes, call: http.Call) -> tuple[bytes, str]:
        """The answer, and why it is none. Raises a Denied."""
        principal = self.current_principal
        subscribing = _subscribing(body)
        if subscribing is None:
            outcome = await self._evm.serve(body, principal, call=call)
            return outcome.body, outcome.code
        call.kind = label_of(subscribing.method)
        try:
            method = permitted(subscribing, on_socket=True)
            self._runtime.admission.check_quota(principal, REQUESTS, BYTES, channel=CHANNEL)
            await self._evm.charge(principal, method.weight)
            if subscribing.method == "eth_unsubscribe":
                answer = jsonrpc.result(subscribing.id, self._unsubscribe(subscribing.params))
            else:
                # The answer leaves before what it names: no notification of an id nobody knows.
                await self._evm.nodes.current_head()
                follower = self._subscribe(subscribing.params)
                answer = jsonrpc.result(subscribing.id, b'"%s"' % follower.id.encode())
                self.say(answer)
                self._evm.count(principal, 1, len(answer))
                self._heads.add(follower)
                return b"", ""
        except RpcError as error:
            return jsonrpc.failure(subscribing.id, error.body), code_of(error)
        except Denied as denied:
            limited = RpcError(LIMIT, str(denied), reason=denied.code)
            return jsonrpc.failure(subscribing.id, limited.body), denied.code
        self._evm.count(principal, 1, len(answer))
        return answer, ""

    def _subscribe(self, params: list[Any]) -> Follower:
        """Raises RpcError, or a Denied of the plan."""
        kind, *rest = params or [""]
        if kind not in ("newHeads", "logs"):
            raise RpcError(BAD_PARAMS, "eth_subscribe serves newHeads and logs.")
        if len(rest) > 1 or (rest and not isinstance(rest[0], dict)):
            raise RpcError(BAD_PARAMS, "eth_subscribe takes its kind and one filter.")
        logs = LogFilter(rest[0] if rest else {}) if kind == "logs" else None
        if self.is_ended or self.lease is None:
            raise RpcError(jsonrpc.UNAVAILABLE, "The connection ends.")
        if len(self._following) >= MAX_SUBSCRIPTIONS:
            text = f"{MAX_SUBSCRIPTIONS} subscriptions on one connection: open another."
            raise RpcError(LIMIT, text)
        self.lease.subscribe()
        follower = Follower(f"0x{secrets.token_hex(16)}", logs, self._tell)
        self._following.add(follower.id)
        return follower

    def _unsubscribe(self, params: list[Any]) -> bytes:
        if len(params) != 1 or not isinstance(params[0], str):
            raise RpcError(BAD_PARAMS, "eth_unsubscribe takes the id of a subscription.")
        if params[0] not in self._following:
            return b"false"
        self._following.discard(params[0])
        self._heads.remove(params[0])
        if self.lease is not None:
            self.lease.unsubscribe()
        return b"true"

    # --- outbound ---

    def _tell(self, id_: str, body: bytes) -> None:
        if not self.is_ended and id_ in self._following:
            frame = Frame(jsonrpc.notification(id_, body), counted=_COUNTED)
            self.sink.send(Batch((frame,)))

    def stopped(self) -> None:
        """Implements `PlainSocket`."""
        for id_ in self._following:
            self._heads.remove(id_)
        self._following.clear()


def _subscribing(body: bytes) -> Call | None:
    """The call in a body that is one about subscriptions, outside of a batch."""
    if b"scribe" not in body or body.lstrip()[:1] == b"[":
        return None
    (call,), _ = jsonrpc.parse(body)
    if call.error is not None:
        return None
    return call if call.method in ("eth_subscribe", "eth_unsubscribe") else None
