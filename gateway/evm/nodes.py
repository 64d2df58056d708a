"""The EVM nodes of one process: how high each is, and which one is asked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from gateway.evm import jsonrpc
from gateway.evm.jsonrpc import LIMIT, UNAVAILABLE, Reply, RpcError
from gateway.evm.metrics import UPSTREAM
from gateway.http.routes import Source
from gateway.upstreams.posts import Endpoint, Failed, GatewayEndpoint, HttpEndpoint
from streaming.upstream.spec import UpstreamKind, UpstreamSpec
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

DEADLINE_S = 5.0
TRIES = 2
#: A node this many blocks behind the best is not asked.
MAX_LAG = 3
#: How often a node is asked for its height while anybody uses this door, and for how long after.
#: The exchange's own takes 100 requests a minute of an address.
POLL_S, PUBLIC_POLL_S = 0.25, 3.0
USED_S = 30.0
POLL_DEADLINE_S = 1.0
#: A node that has not told its height for so long is not asked.
SILENT_S = 5.0
#: All nodes below what was seen, for so long: it is another chain, or the same begun anew.
RESET_S = 30.0
COOL_S = 5.0
POLLING = "(heights)"
_HEIGHT = jsonrpc.request("eth_blockNumber", [])
#: What a node says of a block that it has not yet, in any case.
_MISSING = (b"not found", b"unknown block", b"missing trie", b"header for hash", b"invalid block h")


class Pot(Protocol):
    """What may be asked of the exchange's own node."""

    async def take(self, tenant: str, weight: float) -> float:
        """Spend `weight` and return 0.0, or the seconds to wait."""


@dataclass(slots=True)
class Node:
    """One of them. `told_s` is when it last told its height."""

    name: str
    spec: UpstreamSpec
    endpoint: Endpoint
    height: int = 0
    told_s: float = float("-inf")
    polled_s: float = float("-inf")
    cool_until_s: float = 0.0
    asked: int = 0

    @property
    def source(self) -> Source:
        """Whose it is."""
        is_public = self.spec.kind is UpstreamKind.PUBLIC
        return Source.PUBLIC if is_public else Source.NODE


@dataclass(frozen=True, slots=True)
class Told:
    """A node's answer: its JSON result, or its JSON error."""

    result: bytes
    error: bytes
    source: Source
    took_s: float


class Nodes:
    """`specs` are the upstreams as of now, by name. `head` is the newest block known here, 0 before
    any; it never goes back while its chain goes on."""

    def __init__(self, specs: Callable[[], Mapping[str, UpstreamSpec]], *, pot: Pot) -> None:
        self._specs, self._pot = specs, pot
        self._nodes: dict[str, Node] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.head = 0
        self._head_seen_s = 0.0  # when a node last had it
        self._used = asyncio.Event()
        self._used_s = float("-inf")
        self._polling: asyncio.Task[None] | None = None
        self.on_head: list[Callable[[], None]] = []

    async def run(self) -> None:
        """Keep the heights true while they are used, until cancelled."""
        try:
            while True:
                if time.monotonic() - self._used_s > USED_S:
                    self._used.clear()
                    await self._used.wait()
                try:
                    await self._poll()
                except Exception:
                    stop_if_cancelled()
                    log.exception("evm_heights_not_polled")
                await asyncio.sleep(POLL_S)
        finally:
            for node in self._nodes.values():
                await node.endpoint.close()

    async def current_head(self) -> int:
        """The newest block, as of a moment ago. Raises RpcError when no node tells."""
        now_s = time.monotonic()
        is_first = now_s - self._used_s > USED_S or not self.head
        self._used_s = now_s
        self._used.set()
        if is_first:
            # Nobody polled while nobody asked.
            await self._poll()
        if not self.head or not self._well():
            raise self._nobody()
        return self.head

    async def ask(
        self, body: bytes, *, number: int | None, tenant: str, weight: float, tries: int = TRIES
    ) -> Told:
        """POST `body`, about block `number`, to the best node that has it; where that does not
        answer, once more to another. Raises RpcError."""
        began_s = time.monotonic()
        deadline_s = began_s + DEADLINE_S
        nodes = self._well(number)
        told: Told | None = None
        wait_s = 0.0
        tried = 0
        for place, node in enumerate(nodes):
            if tried == tries:
                break
            if node.source is Source.PUBLIC and (wait := await self._pot.take(tenant, weight)):
                wait_s = wait
                continue
            tried += 1
            left_s = deadline_s - time.monotonic()
            has_next = tried < tries and place + 1 < len(nodes)
            answered = await self._try(node, body, left_s / 2 if has_next else left_s)
            told = answered or told
            if answered is not None and not _is_behind(answered):
                return answered
        if told is not None:
            return told
        if wait_s:
            text = "What this relay may ask the exchange's own node in a minute is spent."
            error = RpcError(LIMIT, text, retryAfter=round(wait_s, 1))
        elif tried:
            error = RpcError(UNAVAILABLE, f"No EVM node answered within {DEADLINE_S:.0f} s.")
        else:
            error = self._nobody()
        error.took_s = time.monotonic() - began_s if tried else None
        try:
            raise error
        finally:
            del error  # it keeps this frame, which would keep it for a collector

    async def send(self, body: bytes, *, tenant: str, weight: float) -> Told:
        """POST `body` once, whatever comes of it. Raises RpcError, which says whether it was
        sent."""
        for node in self._well():
            if node.source is Source.PUBLIC and await self._pot.take(tenant, weight):
                continue
            began_s = time.monotonic()
            try:
                answer = await node.endpoint.post(body, deadline_s=DEADLINE_S)
                told = _told(answer.body, node.source, time.monotonic() - began_s)
            except Failed as failed:
                raise _unknown(failed.was_sent, time.monotonic() - began_s) from failed
            if told is None or (answer.status != 200 and not told.error):
                raise _unknown(True, time.monotonic() - began_s)
            return told
        raise self._nobody()

    # --- heights ---

    async def _poll(self) -> None:
        """One round, shared by all who want one."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.ensure_future(self._poll_each())
        await asyncio.shield(self._polling)

    async def _poll_each(self) -> None:
        now_s = time.monotonic()
        due = [
            node
            for node in self._current().values()
            if now_s - node.polled_s >= (PUBLIC_POLL_S if node.source is Source.PUBLIC else 0.0)
        ]
        rounds = [asyncio.ensure_future(self._poll_one(node)) for node in due]
        if rounds:
            # One that hangs holds nobody up.
            await asyncio.wait(rounds, timeout=POLL_S if self.head else POLL_DEADLINE_S)
        self._raise_head()

    async def _poll_one(self, node: Node) -> None:
        node.polled_s = time.monotonic()
        if node.source is Source.PUBLIC and await self._pot.take(POLLING, 1):
            return
        with contextlib.suppress(Failed, TimeoutError, ValueError, msgspec.DecodeError):
            answer = await node.endpoint.post(_HEIGHT, deadline_s=POLL_DEADLINE_S)
            told = _told(answer.body, node.source, 0.0)
            if told is not None and told.result:
                node.height = int(msgspec.json.decode(told.result, type=str), 16)
                node.told_s = time.monotonic()
                self._raise_head()

    def _raise_head(self) -> None:
        now_s = time.monotonic()
        alive = [node for node in self._nodes.values() if now_s - node.told_s <= SILENT_S]
        best = max((node.height for node in alive), default=0)
        if best >= self.head:
            self._head_seen_s = now_s
        elif best and now_s - self._head_seen_s > RESET_S:
            log.warning("evm_chain_began_anew", was=self.head, now=best)
            self.head = 0
        if best > self.head:
            self.head = best
            for tell in self.on_head:
                tell()

    def _well(self, number: int | None = None) -> list[Node]:
        """The nodes that are up to date and have block `number`, in the order they are asked."""
        now_s = time.monotonic()
        wanted = self.head if number is None else min(number, self.head)
        found = [
            node
            for node in self._nodes.values()
            if now_s - node.told_s <= SILENT_S
            and self.head - node.height <= MAX_LAG
            and node.height >= wanted
            and now_s >= node.cool_until_s
        ]
        found.sort(key=lambda n: (n.source is Source.PUBLIC, -n.spec.weight, n.asked))
        return found

    def _current(self) -> dict[str, Node]:
        specs = self._specs()
        for name in [n for n, node in self._nodes.items() if specs.get(n) != node.spec]:
            task = asyncio.ensure_future(self._nodes.pop(name).endpoint.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for name, spec in specs.items():
            if name not in self._nodes and (endpoint := _endpoint(spec)) is not None:
                self._nodes[name] = Node(name, spec, endpoint)
        return self._nodes

    # --- one request ---

    async def _try(self, node: Node, body: bytes, within_s: float) -> Told | None:
        began_s = time.monotonic()
        node.asked += 1
        try:
            async with asyncio.timeout(within_s):
                answer = await node.endpoint.post(body, deadline_s=within_s)
        except (Failed, TimeoutError):
            UPSTREAM.labels("failed").inc()
            node.cool_until_s = time.monotonic() + 1.0
            return None
        finally:
            node.asked -= 1
        UPSTREAM.labels(str(answer.status)).inc()
        if answer.status == 429:
            node.cool_until_s = time.monotonic() + (answer.retry_after_s or COOL_S)
            return None
        return _told(answer.body, node.source, time.monotonic() - began_s)

    def _nobody(self) -> RpcError:
        if not any(_endpoint_kind(spec) for spec in self._specs().values()):
            text = "No EVM upstream is configured (RELAY_UPSTREAMS: evm=…)."
            return RpcError(UNAVAILABLE, text)
        return RpcError(UNAVAILABLE, "No EVM node is up to date now. Try again shortly.")


def _told(body: bytes, source: Source, took_s: float) -> Told | None:
    try:
        reply = msgspec.json.decode(body, type=Reply)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None  # a page of a proxy before it
    result, error = bytes(reply.result), bytes(reply.error)
    if error and error != jsonrpc.NULL:
        return Told(b"", error, source, took_s)
    return Told(result, b"", source, took_s) if result else None


def _is_behind(told: Told) -> bool:
    """Whether another node may know better."""
    lowered = told.error.lower()
    return b"-32005" in lowered or any(words in lowered for words in _MISSING)


def _unknown(was_sent: bool, took_s: float) -> RpcError:
    reason = "not_sent"
    text = "The transaction was not sent: the node could not be reached. Send it again."
    if was_sent:
        reason = "outcome_unknown"
        text = (
            "The transaction was sent, and no answer came: it may be in a block or not. Look for "
            "its hash or your nonce before you send another."
        )
    error = RpcError(UNAVAILABLE, text, reason=reason, sent=was_sent)
    error.took_s = took_s
    return error


def _endpoint_kind(spec: UpstreamSpec) -> bool:
    return bool(spec.evm_url) or spec.kind is UpstreamKind.GATEWAY


def _endpoint(spec: UpstreamSpec) -> Endpoint | None:
    if spec.evm_url:
        return HttpEndpoint(spec.evm_url)
    if spec.kind is UpstreamKind.GATEWAY:
        return GatewayEndpoint(spec.address, spec.tls, "Evm")
    return None
