"""The nodes a worker reads: files on this host, or a gateway beside a node elsewhere.

Every link delivers the same blocks for the same files: `previous` says what is known of continuity,
whatever lies between the node and us.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError

from streaming.core.blocks import (
    MARKET_KINDS,
    Ending,
    FileKind,
    LateBlock,
    OpenBlock,
    RawBlock,
)
from streaming.core.merge import FAR_BLOCKS
from streaming.core.without_secrets import without_secrets
from streaming.hl_gateway.checkpoint import Checkpoint, CheckpointError, read_checkpoint_file
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.upstream.local_node import LocalNode
from streaming.upstream.sources.info import InfoFailed
from streaming.upstream.sources.nodes import NodeLink
from streaming.upstream.spec import TlsFiles, UpstreamKind, UpstreamSpec

B = TypeVar("B", bound=RawBlock)

__all__ = ["GatewayNode", "LocalNode", "NodeLink", "build_link"]

log = structlog.get_logger(__name__)

Deliver = Callable[[list[RawBlock]], None]
DeliverOpen = Callable[[OpenBlock], None]

#: Between two attempts: doubling from the first to the last, and a random half of that less.
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 1.0
#: A gateway says something each second.
SILENCE_S = 3.0
INFO_DEADLINE_S = 10.0
#: All coins of mainnet are some hundred MB.
CHECKPOINT_DEADLINE_S = 300.0
STATUS_EVERY_S = 2.0
#: Blocks of all coins are 0.5 MB, one line is 64 MiB at most; a checkpoint comes in small chunks.
MAX_MESSAGE_BYTES = 160 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # How long a connection may take to make, whatever the name says.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # Two links to one gateway (two relays in one process, tests) are two connections.
    ("grpc.use_local_subchannel_pool", 1),
]
#: Whatever a gateway, the way to it, or a TLS file of ours can do to a call.
_TROUBLE = (grpc.aio.AioRpcError, grpc.aio.UsageError, DecodeError, OSError, ValueError)
_SERVICE = f"/{pb.DESCRIPTOR.services_by_name['HlGateway'].full_name}/"


def build_link(
    spec: UpstreamSpec, *, name: str, scratch: Path, kinds: Collection[FileKind] = MARKET_KINDS
) -> NodeLink:
    """The link of a node's spec. Raises ValueError for one of another kind."""
    match spec.kind:
        case UpstreamKind.NODE:
            return LocalNode(spec, name=name, scratch=scratch, kinds=kinds)
        case UpstreamKind.GATEWAY:
            return GatewayNode(spec, name=name, scratch=scratch, kinds=kinds)
    raise ValueError(f"{spec.kind} is no node")


class _Cut(Exception):
    """The stream ended; one line saying why."""


class GatewayNode:
    """Implements `NodeLink` on an HL Gateway.

    It comes back by itself, and then asks each kind from the height after the last one it got, so
    that what it delivers has no hole and nothing twice, as long as the gateway holds it. Where it
    does not, the next block's `previous` says so.
    """

    def __init__(
        self, spec: UpstreamSpec, *, name: str, scratch: Path, kinds: Collection[FileKind]
    ) -> None:
        """`scratch` is a folder of ours alone, for a checkpoint on its way."""
        self.name = name
        self._spec, self._scratch = spec, scratch
        self._names = {str(kind): kind for kind in kinds}
        self._heights: dict[FileKind, int] = {}
        self._not_served: list[str] = []
        self._has_history = False
        self._opened: tuple[asyncio.AbstractEventLoop, grpc.aio.Channel] | None = None
        self._is_connected = False
        self._heard_s: float | None = None
        self._bytes = self._errors = self._connects = self._lost = 0
        self._error = ""
        self._status: dict[str, Any] = {}
        self._faults: dict[str, int] = {}

    async def run(
        self, deliver: Deliver, *, deliver_history: Deliver, deliver_open: DeliverOpen
    ) -> None:
        """Deliver blocks until cancelled, and come back after each cut."""
        watch = asyncio.ensure_future(self._watch())
        wait_s = RETRY_FIRST_S
        try:
            while True:
                before = self._bytes
                try:
                    await self._follow(deliver, deliver_history, deliver_open)
                except _Cut as cut:
                    self._fail(str(cut))
                    # A channel that failed makes us wait by its own rules; a new one does not.
                    await self._close()
                wait_s = RETRY_FIRST_S if self._bytes > before else min(2 * wait_s, RETRY_LAST_S)
                # Half of it at random: two workers must not come back in step.
                await asyncio.sleep(wait_s * (0.5 + random.random() / 2))  # noqa: S311
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await self._close()

    async def checkpoint(self) -> Checkpoint:
        """All resting orders, written by the remote node just now. Raises CheckpointError."""
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        path = self._scratch / f"checkpoint-{self.name}.json"
        try:
            await self._receive(path)
            return await asyncio.to_thread(read_checkpoint_file, path)
        except _TROUBLE as error:
            raise CheckpointError(f"{self._spec.address}: {_why(error)}") from error
        finally:
            path.unlink(missing_ok=True)

    async def info(self, payload: bytes) -> bytes:
        """The remote node's answer to an info request. Raises InfoFailed."""
        try:
            request = pb.InfoRequest(body=payload)
            answer = pb.InfoResponse.FromString(
                await self._unary("Info", request, within_s=INFO_DEADLINE_S)
            )
        except _TROUBLE as error:
            raise InfoFailed(f"{self._spec.address}: {_why(error)}") from error
        if answer.status != 200:
            raise InfoFailed(f"HTTP {answer.status}")
        return answer.body

    def state(self) -> dict[str, Any]:
        """Live figures; `gateway` is what it last said of itself."""
        heard = self._heard_s
        return {
            "kind": "gateway",
            "address": self._spec.address,
            "info_url": without_secrets(self._spec.info_url or "") or None,
            "connected": self._is_connected,
            "heights": {str(kind): height for kind, height in self._heights.items()},
            "not_served": self._not_served,
            "silent_s": None if heard is None else round(time.monotonic() - heard, 3),
            "bytes": self._bytes,
            "connects": self._connects,
            "errors": self._errors,
            "error": self._error,
            "lost": self._lost,
            "faults": dict(self._faults),
            "gateway": self._status,
        }

    # --- blocks -----------------------------------------------------------------------------------

    async def _follow(
        self, deliver: Deliver, deliver_history: Deliver, deliver_open: DeliverOpen
    ) -> None:
        """One stream. Raises _Cut at its end, whatever ended it."""
        heights = {name: self._heights.get(kind, -1) + 1 for name, kind in self._names.items()}
        request = pb.StreamBlocksRequest(
            kinds=[pb.KindFrom(kind=name, height=height) for name, height in heights.items()],
            open_fills=True,
        )
        wants_history = not self._has_history and heights.get(FileKind.FILLS) == 0
        if wants_history:
            request.history.append(FileKind.FILLS)
        try:
            call = self._stream("StreamBlocks", request, within_s=None)
        except OSError as error:  # of a TLS file
            raise _Cut(_why(error)) from error
        try:
            while True:
                response, size_bytes = await _next(call)
                if response.starts:
                    self._joined(response.starts, wanted=heights)
                if response.history:
                    if wants_history:
                        deliver_history(self._known(response.blocks))
                elif response.HasField("open"):
                    self._heard_s = time.monotonic()
                    deliver_open(_block(response.open, OpenBlock))
                elif blocks := self._fresh(response.blocks):
                    self._heard_s = time.monotonic()
                    deliver(blocks)
                self._bytes += size_bytes
        finally:
            self._is_connected = False
            call.cancel()

    def _joined(self, starts: Collection[pb.Start], *, wanted: Mapping[str, int]) -> None:
        self._is_connected = self._has_history = True
        self._connects += 1
        self._error = ""
        log.info("gateway_joined", source=self.name, address=self._spec.address)
        served = {start.kind for start in starts}
        not_served = [name for name in self._names if name not in served]
        if not_served and not_served != self._not_served:
            log.warning("gateway_does_not_serve", source=self.name, kinds=",".join(not_served))
        self._not_served = not_served
        lost = {}
        for start in starts:
            kind = self._names.get(start.kind)
            if kind is None:
                continue
            # A height far above anything the node has came from a damaged line.
            is_absurd = self._heights.get(kind, 0) > start.newest + FAR_BLOCKS
            if start.newest and (is_absurd or kind not in self._heights):
                self._heights[kind] = start.newest
            if not start.resumed:
                lost[start.kind] = (wanted[start.kind], start.oldest)
        if lost:
            self._lost += 1
            log.warning("gateway_holds_too_little", source=self.name, wanted_and_oldest=lost)

    def _known(self, sent: Iterable[pb.Block]) -> list[RawBlock]:
        return [_known_block(each) for each in sent if each.kind in self._names]

    def _fresh(self, sent: Iterable[pb.Block]) -> list[RawBlock]:
        """What we do not have yet: after a restart a gateway may go back further than we do."""
        blocks = []
        for each in sent:
            kind = self._names.get(each.kind)
            if kind is None:
                continue
            if not each.late:
                known = self._heights.get(kind, -1)
                # Far below what we had, that was no height: see `_joined`.
                if known - FAR_BLOCKS <= each.height <= known:
                    continue
                self._heights[kind] = each.height
            blocks.append(_known_block(each))
        return blocks

    def _fail(self, why: str) -> None:
        self._errors += 1
        if why != self._error:
            # Once a reason: a gateway that is down is asked every second or two.
            self._error = why
            log.warning("gateway_lost", source=self.name, address=self._spec.address, reason=why)

    async def _watch(self) -> None:
        """Ask the gateway how its node's files are doing."""
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            if not self._is_connected:
                continue
            try:
                data = await self._unary("Status", pb.StatusRequest(), within_s=STATUS_EVERY_S)
                self._note(pb.StatusResponse.FromString(data))
            except _TROUBLE:
                continue  # the stream tells

    def _note(self, status: pb.StatusResponse) -> None:
        faults: dict[str, int] = {}
        for kind in status.kinds:
            for reason, count in kind.faults.items():
                faults[reason] = faults.get(reason, 0) + count
        for reason in faults.keys() - self._faults.keys():
            log.warning("upstream_fault", source=self.name, reason=reason)
        self._faults = faults
        self._status = {
            "kinds": {
                kind.kind: {
                    "mode": kind.mode,
                    "height": kind.height,
                    "oldest": kind.oldest,
                    "silent_s": round(kind.silent_s, 3),
                    "lag_s": round(kind.lag_s, 3),
                    "backlog_bytes": kind.backlog_bytes,
                }
                for kind in status.kinds
            },
            "clients": status.clients,
            "memory_bytes": status.memory_bytes,
            "up_s": round(status.up_s, 1),
        }

    # --- calls ------------------------------------------------------------------------------------

    async def _receive(self, path: Path) -> None:
        size_bytes = received = 0
        call = self._stream("Checkpoint", pb.CheckpointRequest(), within_s=CHECKPOINT_DEADLINE_S)
        try:
            with await asyncio.to_thread(path.open, "wb") as file:
                async for data in call:
                    response = pb.CheckpointResponse.FromString(data)
                    size_bytes = size_bytes or response.size_bytes
                    received += len(response.chunk)
                    await asyncio.to_thread(file.write, response.chunk)
        finally:
            call.cancel()
        if received != size_bytes:
            raise OSError(f"{received} of {size_bytes} bytes of a checkpoint arrived")

    def _stream(self, method: str, request: Any, *, within_s: float | None) -> Any:
        # `wait_for_ready` would hang on a gateway that is down; the caller tries again instead.
        call = self._channel().unary_stream(_SERVICE + method)
        return call(request.SerializeToString(), timeout=within_s)

    async def _unary(self, method: str, request: Any, *, within_s: float) -> bytes:
        call = self._channel().unary_unary(_SERVICE + method)
        data: bytes = await call(request.SerializeToString(), timeout=within_s)
        return data

    def _channel(self) -> grpc.aio.Channel:
        """One connection for all calls, made in the loop that uses it."""
        loop = asyncio.get_running_loop()
        if self._opened is None or self._opened[0] is not loop:
            self._opened = loop, open_channel(self._spec.address, self._spec.tls)
        return self._opened[1]

    async def _close(self) -> None:
        if self._opened is not None:
            _, channel = self._opened
            self._opened = None
            await channel.close()


async def _next(call: Any) -> tuple[pb.StreamBlocksResponse, int]:
    """The next response and its size. Raises _Cut."""
    try:
        async with asyncio.timeout(SILENCE_S):
            data = await call.read()
        if data is grpc.aio.EOF:
            raise _Cut("the gateway ended the stream")
        return pb.StreamBlocksResponse.FromString(data), len(data)
    except _TROUBLE as error:
        raise _Cut(_why(error)) from error


def open_channel(address: str, tls: TlsFiles | None) -> grpc.aio.Channel:
    """A connection to a gateway, for the running loop. Raises OSError when a TLS file cannot be
    read."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    return grpc.aio.secure_channel(address, credentials(tls), options=_OPTIONS)


def credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    """Those files for a connection. Raises OSError when one cannot be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca),
        private_key=_read(tls.key),
        certificate_chain=_read(tls.cert),
    )


def _read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _known_block(sent: pb.Block) -> RawBlock:
    return _block(sent, LateBlock if sent.late else RawBlock)


def _block(sent: pb.Block, make: type[B]) -> B:
    return make(
        FileKind(sent.kind),
        sent.height,
        list(sent.lines),
        sent.read_ns,
        sent.previous if sent.HasField("previous") else None,
        _ending(sent.ending),
    )


def _ending(number: int) -> Ending:
    """Of a newer gateway's endings that this one does not know, nothing good is believed."""
    return Ending(min(number, Ending.TORN))


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower()}: {error.details()}"
    return str(error) or type(error).__name__
