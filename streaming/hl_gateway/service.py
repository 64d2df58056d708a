"""The calls of `protos/hl_gateway.proto`, on a ring of blocks and the node's own HTTP.

Responses are ready bytes and requests are raw: a block is encoded once, whoever reads it, and a
request that cannot be parsed is refused here instead of in a traceback of the library.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError

from streaming.core.blocks import FileKind, OpenBlock
from streaming.core.without_secrets import without_secrets
from streaming.hl_gateway import metrics
from streaming.hl_gateway.checkpoint import CheckpointError, request_checkpoint_file
from streaming.hl_gateway.config import STALLED_S
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.hl_gateway.node_http import (
    MAX_REQUEST_BYTES,
    NodeHttp,
    NodeHttpError,
    Refused,
    checked_info,
)
from streaming.hl_gateway.peers import PeerCalls
from streaming.hl_gateway.ring import Lapsed, Reader, Ring, history, message

log = structlog.get_logger(__name__)

#: One response. A reader catching up needs few calls, and one that is slow holds no more than this
#: (and one block) of memory of its own.
RESPONSE_BYTES = 1024 * 1024
#: An empty response after this much quiet, so that a reader tells a quiet node from a dead gateway.
#: (Keepalive pings of the transport did not find a stopped process within 30 s.)
BEAT_S = 1.0
CHUNK_BYTES = 256 * 1024
#: All coins of mainnet are some hundred MB, which a slow link needs minutes for.
CHECKPOINT_S = 300.0
#: Open calls of one host. gRPC gives the server no way to end a call whose reader has stopped, so
#: that one keeps its place and one response (1 MiB) until its connection goes; it cannot take more
#: than the places of its host. Two workers need about ten.
CALLS_PER_HOST = 32
#: Each has a file of some hundred MB open until it is sent.
CHECKPOINTS_PER_HOST = 4

#: `grpc.aio.ServicerContext`; the library brings no types.
Context = Any
Call = Callable[[bytes, Context], Awaitable[Any]]
_Code = grpc.StatusCode


class GatewayService:
    """The methods that `handlers` registers. `wake` tells all readers that the ring has grown."""

    def __init__(
        self,
        ring: Ring,
        *,
        info_url: str | None,
        evm_url: str | None,
        scratch: Path,
        status: Callable[[], pb.StatusResponse],
        stalled_s: float = STALLED_S,
    ) -> None:
        """`scratch` is a folder the node can write its checkpoints to."""
        self.clients = 0
        self.cut = 0
        self._ring, self._status = ring, status
        self._info_url, self._scratch, self._stalled_s = info_url, scratch, stalled_s
        self._info = NodeHttp(info_url) if info_url else None
        self._evm = NodeHttp(evm_url) if evm_url else None
        self._grown: set[asyncio.Event] = set()
        self._open = b""  # the response with the block of fills that is open now
        self._one_checkpoint = asyncio.Lock()
        self._checkpoints = 0
        self._calls = PeerCalls(limit=CALLS_PER_HOST)
        self._sending = PeerCalls(limit=CHECKPOINTS_PER_HOST)

    async def close(self) -> None:
        """Close the connections to the node."""
        for http in (self._info, self._evm):
            if http is not None:
                await http.close()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        name = pb.DESCRIPTOR.services_by_name["HlGateway"].full_name
        return grpc.method_handlers_generic_handler(
            name,
            {
                "StreamBlocks": stream(self._counted(self._calls, self.stream_blocks)),
                "Checkpoint": stream(
                    self._counted(self._calls, self._counted(self._sending, self.checkpoint))
                ),
                "Info": unary(self._counted(self._calls, self.info)),
                "Evm": unary(self._counted(self._calls, self.evm)),
                "Status": unary(self._counted(self._calls, self.status)),
            },
        )

    def _counted(self, calls: PeerCalls, call: Call) -> Call:
        """`call`, refused to a host that has its share of them open."""

        async def counted(data: bytes, context: Context) -> Any:
            peer = context.peer()
            if not calls.enter(peer):
                why = f"this host has {calls.limit} calls open"
                await _refuse(context, "any", _Code.RESOURCE_EXHAUSTED, why)
            try:
                return await call(data, context)
            finally:
                calls.leave(peer)

        return counted

    def wake(self) -> None:
        """The ring has grown."""
        for event in self._grown:
            event.set()

    def show_open(self, block: OpenBlock | None) -> None:
        """The block of fills that may get more, as far as it is; None: it has closed."""
        if block is None:
            self._open = b""
        elif self._grown:
            self._open = pb.StreamBlocksResponse(open=message(block)).SerializeToString()
            self.wake()

    # --- blocks -----------------------------------------------------------------------------------

    async def stream_blocks(self, data: bytes, context: Context) -> None:
        """Blocks as they close, until the caller goes or falls too far behind."""
        request = await _parse(data, pb.StreamBlocksRequest, context)
        try:
            heights, past = _wanted(request, served=self._ring.kinds)
        except ValueError as error:
            await _refuse(context, "stream", _Code.INVALID_ARGUMENT, str(error))
        grown = asyncio.Event()
        # Here and nowhere later: between a place in the ring and the first wait for more, nothing
        # may be missed.
        self._grown.add(grown)
        reader = Reader(self._ring, heights)
        before = [
            history(ring, before=ring.end, chunk_bytes=RESPONSE_BYTES)
            for ring in map(self._ring.kinds.__getitem__, past)
            if not ring.is_filling  # what is live of it would not follow on what there is now
        ]
        self.clients += 1
        metrics.CLIENTS.set(self.clients)
        log.info("reader_joined", peer=context.peer(), kinds=",".join(heights))
        try:
            # Also says, while no block closes, that the stream stands.
            await self._write(
                context, pb.StreamBlocksResponse(starts=reader.starts).SerializeToString()
            )
            await self._send_past(context, itertools.chain.from_iterable(before))
            await self._send_live(context, reader, grown, open_fills=request.open_fills)
        except (Lapsed, TimeoutError) as error:
            self.cut += 1
            metrics.CUT.inc()
            why = str(error) or f"nothing was taken for {self._stalled_s:g} s"
            log.warning("reader_cut", peer=context.peer(), reason=why)
        finally:
            self._grown.discard(grown)
            self.clients -= 1
            metrics.CLIENTS.set(self.clients)
        # Waits for as long as the reader reads nothing at all. Nothing of the ring is held here,
        # and the host's place is taken as long as gRPC holds the call.
        await context.abort(_Code.RESOURCE_EXHAUSTED, f"too slow: {why}; resume by height")

    async def _send_past(self, context: Context, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            await self._write(context, chunk + _HISTORY)

    async def _send_live(
        self, context: Context, reader: Reader, grown: asyncio.Event, *, open_fills: bool
    ) -> NoReturn:
        shown = b""
        while True:
            grown.clear()
            frames = reader.take(limit_bytes=RESPONSE_BYTES)
            if frames:
                await self._write(context, b"".join(frames) if len(frames) > 1 else frames[0])
            elif open_fills and self._open and self._open is not shown:
                shown = self._open
                await self._write(context, shown)
            elif not await _within(BEAT_S, grown):
                await self._write(context, b"")

    async def _write(self, context: Context, response: bytes) -> None:
        async with asyncio.timeout(self._stalled_s):
            await context.write(response)
        metrics.SENT_BYTES.inc(len(response))

    # --- the rest ---------------------------------------------------------------------------------

    async def checkpoint(self, data: bytes, context: Context) -> None:
        """A checkpoint that the node writes now."""
        await _parse(data, pb.CheckpointRequest, context)
        if self._info_url is None:
            await _refuse(context, "checkpoint", _Code.FAILED_PRECONDITION, _NO_INFO)
        self._checkpoints += 1
        path = self._scratch / f"checkpoint-{self._checkpoints}.json"
        try:
            # One at a time: the node holds its state still while it writes. Not while it is sent:
            # one who takes a chunk every nine seconds would have all others wait.
            async with asyncio.timeout(CHECKPOINT_S), self._one_checkpoint:
                height = await request_checkpoint_file(self._info_url, path)
                file = await asyncio.to_thread(path.open, "rb")
            with file:
                await asyncio.to_thread(path.unlink)
                async with asyncio.timeout(CHECKPOINT_S):
                    await self._send_file(context, file, height=height)
        except TimeoutError:
            await _refuse(
                context, "checkpoint", _Code.DEADLINE_EXCEEDED, f"not within {CHECKPOINT_S:g} s"
            )
        except (CheckpointError, OSError) as error:
            told = str(error).replace(self._info_url, without_secrets(self._info_url))
            await _refuse(context, "checkpoint", _Code.UNAVAILABLE, told)
        finally:
            path.unlink(missing_ok=True)
        metrics.REQUESTS.labels("checkpoint", "ok").inc()

    async def _send_file(self, context: Context, file: BinaryIO, *, height: int) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        head = {"height": height, "size_bytes": size}
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            response = pb.CheckpointResponse(chunk=chunk, **head)
            await self._write(context, response.SerializeToString())
            head = {}

    async def info(self, data: bytes, context: Context) -> bytes:
        """The node's answer to an info request."""
        request = await _parse(data, pb.InfoRequest, context)
        try:
            body = checked_info(request.body)
        except ValueError as error:
            await _refuse(context, "info", _Code.INVALID_ARGUMENT, str(error))
        except Refused as refused:
            await _refuse(context, "info", _Code.PERMISSION_DENIED, str(refused))
        status, answer = await self._post("info", self._info, body, context)
        return bytes(pb.InfoResponse(status=status, body=answer).SerializeToString())

    async def evm(self, data: bytes, context: Context) -> bytes:
        """The node's answer to a JSON-RPC request."""
        request = await _parse(data, pb.EvmRequest, context)
        status, answer = await self._post("evm", self._evm, request.body, context)
        return bytes(pb.EvmResponse(status=status, body=answer).SerializeToString())

    async def status(self, data: bytes, context: Context) -> bytes:
        """The figures."""
        await _parse(data, pb.StatusRequest, context)
        return bytes(self._status().SerializeToString())

    async def _post(
        self, call: str, http: NodeHttp | None, body: bytes, context: Context
    ) -> tuple[int, bytes]:
        if http is None:
            await _refuse(context, call, _Code.FAILED_PRECONDITION, _NO_INFO)
        if len(body) > MAX_REQUEST_BYTES:
            limit = f"a request of more than {MAX_REQUEST_BYTES} bytes"
            await _refuse(context, call, _Code.INVALID_ARGUMENT, limit)
        try:
            reply = await http.post(body, deadline_s=context.time_remaining())
        except TimeoutError:
            await _refuse(context, call, _Code.DEADLINE_EXCEEDED, "the node did not answer in time")
        except NodeHttpError as error:
            await _refuse(context, call, _Code.UNAVAILABLE, str(error))
        metrics.REQUESTS.labels(call, "ok" if reply.status == 200 else str(reply.status)).inc()
        return reply.status, reply.body


_NO_INFO = "this gateway was started without the node's HTTP address"
#: Appended to a response of blocks: the field `history`, set.
_HISTORY = pb.StreamBlocksResponse(history=True).SerializeToString()


def _wanted(
    request: pb.StreamBlocksRequest, *, served: Collection[FileKind]
) -> tuple[dict[FileKind, int], list[FileKind]]:
    """The first height of each kind, and the kinds whose past is wanted. Raises ValueError.

    Kinds that are not served here are left out: a newer worker knows more of them, and an operator
    may have asked for a few.
    """
    heights: dict[FileKind, int] = {}
    for each in request.kinds:
        kind = _served(each.kind, served)
        if kind in heights:
            raise ValueError(f"{kind} twice")
        if kind is not None:
            heights[kind] = each.height
    if not heights:
        names = ", ".join(repr(each.kind[:50]) for each in request.kinds[:20])
        raise ValueError(
            f"this gateway does not serve {names}" if names else "no kind of block is asked for"
        )
    named = (_served(name, served) for name in dict.fromkeys(request.history))
    past = [kind for kind in named if kind is not None]
    for kind in past:
        if heights.get(kind, 1):
            raise ValueError(f"history of {kind}, which does not begin from now on")
    return heights, past


def _served(name: str, served: Collection[FileKind]) -> FileKind | None:
    return next((kind for kind in served if kind == name), None)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether `event` came in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def _parse(data: bytes, kind: Any, context: Context) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        await _refuse(context, "any", _Code.INVALID_ARGUMENT, f"not a {kind.__name__}")


async def _refuse(context: Context, call: str, code: grpc.StatusCode, why: str) -> NoReturn:
    """Count, and end the call."""
    metrics.REQUESTS.labels(call, code.name.lower()).inc()
    await context.abort(code, why)
    raise AssertionError("abort raises")
