"""Methods as gRPC is given them: a call that is over is freed at once.

gRPC keeps the error of a call that was aborted with the call. The error has the frames it passed,
and those before it that led to it; these have the call, and what was made for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from gateway.grpc.statuses import bare

T = TypeVar("T")
Behaviour = Callable[[Any, Any], Awaitable[T]]


def unary(behaviour: Behaviour[bytes]) -> Any:
    """One message, one answer."""
    return grpc.unary_unary_rpc_method_handler(_freed(behaviour))


def stream(behaviour: Behaviour[None]) -> Any:
    """One message, answers that are written."""
    return grpc.unary_stream_rpc_method_handler(_freed(behaviour))


def bidi(behaviour: Behaviour[None]) -> Any:
    """Messages that are read, answers that are written."""
    return grpc.stream_stream_rpc_method_handler(_freed(behaviour))


def _freed(behaviour: Behaviour[T]) -> Behaviour[T]:
    async def handled(asked: Any, context: Any) -> T:
        try:
            return await behaviour(asked, context)
        except grpc.aio.AbortError as aborted:
            raise bare(aborted)  # noqa: B904  # the one that gRPC keeps
        finally:
            del asked, context  # from then on the error has this frame alone

    return handled
