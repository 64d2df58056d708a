"""How a call ends, in gRPC's words: a status, one line, and metadata for programs."""

from __future__ import annotations

import math
from typing import Any, Never, TypeVar

import grpc

from tenants.admission.errors import Denied, MissingKey

#: Beside the status: the relay's own code, which never changes.
CODE = "hlrelay-code"
#: Seconds until the same call would be served.
RETRY_AFTER = "retry-after"
#: Where to resume a subscription of a call that was cut: `id cursor`.
RESUME = "hlrelay-resume"
#: gRPC's headers and trailers have room for 8 KiB.
MAX_RESUME_BYTES = 4_096

Metadata = tuple[tuple[str, str], ...]
E = TypeVar("E", bound=BaseException)


class CallEnds(Exception):
    """The call ends with this status; `str()` is the line that goes with it."""

    def __init__(
        self, status: grpc.StatusCode, line: str, *, code: str = "", metadata: Metadata = ()
    ) -> None:
        super().__init__(line)
        self.status = status
        self.code = code
        own = ((CODE, code),) if code else ()
        self.metadata: Metadata = (*own, *metadata)


_BY_HTTP = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
NO_KEY = "No API key. Send it as metadata: x-api-key, x-token or authorization: Bearer."


def of_denied(denied: Denied) -> CallEnds:
    """What the door says, over gRPC."""
    line = NO_KEY if isinstance(denied, MissingKey) else str(denied)
    metadata: Metadata = ()
    if denied.retry_after_s is not None:
        metadata = ((RETRY_AFTER, str(max(1, math.ceil(denied.retry_after_s)))),)
    status = _BY_HTTP.get(denied.http_status, grpc.StatusCode.PERMISSION_DENIED)
    return CallEnds(status, line, code=denied.code, metadata=metadata)


#: The relay dialect's refusals, where they end a call because its proto has no words for them.
_BY_REFUSAL = {
    "not_ready": grpc.StatusCode.UNAVAILABLE,
    "limit": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too_many_users": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too_many_coins": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "quota_exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "rate_limited": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "replay_limit": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "not_in_plan": grpc.StatusCode.PERMISSION_DENIED,
    "beyond_retention": grpc.StatusCode.PERMISSION_DENIED,
    "cursor_ahead": grpc.StatusCode.OUT_OF_RANGE,
}


def of_refusal(code: str, line: str) -> CallEnds:
    """A refusal as the end of a call."""
    return CallEnds(_BY_REFUSAL.get(code, grpc.StatusCode.INVALID_ARGUMENT), line, code=code)


def bad_argument(where: str, what: str) -> CallEnds:
    """A request that cannot be meant; `where` is the path of the field."""
    line = f"{where}: {what}"
    return CallEnds(grpc.StatusCode.INVALID_ARGUMENT, line, code="bad_argument")


def fault() -> CallEnds:
    """A fault of ours; what went wrong is in the log."""
    line = "A fault of the relay ended this call: try again."
    return CallEnds(grpc.StatusCode.INTERNAL, line, code="internal")


def bare(error: E) -> E:
    """`error` without what led to it: frames, which have the call, while the call has the error."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


async def abort(context: Any, ends: CallEnds) -> Never:
    """End the call. What is on its way is delivered before; returns to nobody."""
    await context.abort(ends.status, str(ends), ends.metadata)
    raise AssertionError("an aborted call goes on")
