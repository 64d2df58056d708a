"""JSON-RPC 2.0 as bytes: calls in, answers out; ids and results pass as they were written. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

MAX_BATCH = 50
MAX_ID_BYTES = 128
_METHOD = re.compile(r"[A-Za-z][0-9A-Za-z]*_[0-9A-Za-z_]{1,60}\Z")
#: Text, or a whole number below 2**63.
_ID = re.compile(rb'("(?:[^"\\]|\\.)*"|-?\d{1,18})\Z')

PARSE, INVALID, NOT_FOUND, BAD_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
#: Source: EIP-1474. Limits, a resource that is not there now, and a transaction that was not taken.
LIMIT, UNAVAILABLE, REJECTED = -32005, -32002, -32003
NULL = b"null"


class RpcError(Exception):
    """What one call gets instead of a result. `data` is what a program reads of it."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data
        #: How long nodes were asked for it, None where none was.
        self.took_s: float | None = None

    @property
    def body(self) -> bytes:
        """The error object."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data:
            error["data"] = self.data
        return orjson.dumps(error)


class _Written(msgspec.Struct):
    """A call as it came."""

    method: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"[]")
    id: msgspec.Raw = msgspec.Raw(b"")
    jsonrpc: msgspec.Raw = msgspec.Raw(b'"2.0"')


@dataclass(slots=True)
class Call:
    """One call. `id` is its JSON; `error` says why it is none."""

    id: bytes
    method: str = ""
    params: list[Any] = field(default_factory=list)
    error: RpcError | None = None


class Reply(msgspec.Struct):
    """An upstream's answer."""

    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


def parse(body: bytes) -> tuple[list[Call], bool]:
    """The calls in a body, and whether they came as a batch. Raises RpcError for a body that is
    neither."""
    is_batch = body.lstrip()[:1] == b"["
    if not is_batch:
        return [_call(body)], False
    try:
        items = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RpcError(PARSE, f"The body is not JSON: {error}.") from None
    if not 1 <= len(items) <= MAX_BATCH:
        text = f"A batch of {len(items)} calls: send 1 to {MAX_BATCH}."
        raise RpcError(INVALID, text, limit=MAX_BATCH)
    return [_call(bytes(item)) for item in items], True


def _call(body: bytes) -> Call:
    try:
        written = msgspec.json.decode(body, type=_Written)
    except msgspec.ValidationError:
        return _bad(NULL, INVALID, "A call must be a JSON object.")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _bad(NULL, PARSE, f"The body is not JSON: {error}.")
    call_id = bytes(written.id).strip()
    if not call_id:
        return _bad(NULL, INVALID, "A call needs an id: notifications are not served.")
    if len(call_id) > MAX_ID_BYTES or not _ID.match(call_id):
        shown = call_id if len(call_id) <= MAX_ID_BYTES else NULL
        return _bad(
            shown, INVALID, "The id must be a text or a whole number, of 128 bytes at most."
        )
    try:
        method = orjson.loads(bytes(written.method) or b"null")
        params = orjson.loads(bytes(written.params))
    except orjson.JSONDecodeError as error:
        return _bad(call_id, PARSE, f"The body is not JSON: {error}.")
    if bytes(written.jsonrpc).strip() != b'"2.0"':
        return _bad(call_id, INVALID, 'jsonrpc must be "2.0".')
    if not isinstance(method, str) or not _METHOD.match(method):
        return _bad(call_id, INVALID, "method must be a name such as eth_blockNumber.")
    if not isinstance(params, list):
        if params is not None:
            return _bad(call_id, BAD_PARAMS, "params must be an array.")
        params = []
    return Call(call_id, method, params)


def _bad(call_id: bytes, code: int, message: str) -> Call:
    return Call(call_id, error=RpcError(code, message))


def result(call_id: bytes, body: bytes) -> bytes:
    """The answer with a result that is JSON already."""
    return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (call_id, body)


def failure(call_id: bytes, body: bytes) -> bytes:
    """The answer with an error object that is JSON already."""
    return b'{"jsonrpc":"2.0","id":%s,"error":%s}' % (call_id, body)


def request(method: str, params: list[Any]) -> bytes:
    """A call for an upstream."""
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def notification(subscription: str, body: bytes) -> bytes:
    """What a subscription says, as JSON already."""
    return (
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"%s","result":%s}}'
        % (subscription.encode(), body)
    )
