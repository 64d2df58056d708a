"""All nodes as one source: links → merge → one market → envelopes.

A node that fails, stalls, lags or disagrees is marked and read on; the others go on without it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import orjson
import structlog

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.books import build_books
from streaming.core.catalogue import Catalogue
from streaming.core.checks import BlockChecks, Disagreement
from streaming.core.envelope import Envelope
from streaming.core.market import CheckpointTooOld, Market
from streaming.core.merge import FAR_BLOCKS, BlockMerge
from streaming.core.node_lines import parse_time_ns
from streaming.core.topic import Kind, Topic
from streaming.hl_gateway.checkpoint import Checkpoint, CheckpointError
from streaming.upstream import metrics
from streaming.upstream.health import Health
from streaming.upstream.sources.base import Publish
from streaming.upstream.sources.info import InfoFailed, collect_catalogue

log = structlog.get_logger(__name__)

CATALOGUE_EVERY_S = 60.0
INFO_DEADLINE_S = 10.0
RETRY_S = 2.0
RESTART_S = 1.0
#: How often to look whether the books still follow the files (a hole makes them wait for a new
#: checkpoint), and whether a node's marks changed.
WATCH_S = 0.1
#: What is made of node files.
NODE_KINDS = frozenset({Kind.TRADES, Kind.L2_BOOK, Kind.BBO, Kind.L4_BOOK, Kind.ALL_MIDS})
_BLOCK_TIME = b'"block_time":"'


class NodeLink(Protocol):
    """One node, wherever it is. `streaming.upstream.links` has those there are."""

    name: str

    async def run(
        self,
        deliver: Callable[[list[RawBlock]], None],
        *,
        deliver_history: Callable[[list[RawBlock]], None],
    ) -> None:
        """Deliver closed blocks until cancelled; what was there before goes to
        `deliver_history`."""

    async def checkpoint(self) -> Checkpoint:
        """All resting orders after some recent block. Raises CheckpointError."""

    async def info(self, payload: bytes) -> bytes:
        """The node's answer to an info request."""

    def state(self) -> dict[str, Any]:
        """Live figures: plain JSON values, no secrets."""


class NodesSource:
    """Implements `Source` and `ManyUpstreams` on any number of node links."""

    def __init__(
        self,
        links: Sequence[NodeLink],
        *,
        name: str = "nodes",
        weights: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self._links = {link.name: link for link in links}
        self._weights = dict(weights or {})
        self._market = _fresh_market()
        self._merge = BlockMerge(self._links)
        self._checks = BlockChecks()
        self._health = Health()
        self._catalogue = Catalogue()
        self._publish: Publish = lambda envelopes: None
        self._history_of: str | None = None
        self._height = 0
        self._bytes: Counter[str] = Counter()
        self._rates: dict[str, tuple[float, int]] = {}  # at, bytes: of the last `states`
        self._faults: Counter[str] = Counter()
        self._told: set[str] = set()
        self._marks: dict[str, list[str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._group: asyncio.TaskGroup | None = None

    # --- what the worker asks ---------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The nodes' own list, and whatever their files have shown besides."""
        seen = self._market.coins()
        if seen <= self._catalogue.coins:
            return self._catalogue
        return Catalogue(self._catalogue.coins | seen, self._catalogue.dexes)

    @property
    def tip(self) -> tuple[int, int]:
        """The highest block handed on, and the newest block time (ns since 1970)."""
        return self._height, self._market.block_time_ns

    def serves(self, topic: Topic) -> bool:
        """Whether node files hold the topic and the nodes know its coin."""
        return bool(self._links) and topic.kind in NODE_KINDS and self.catalogue.knows(topic)

    def want(self, topic: Topic) -> bool:
        """Publish the topic from the next block on."""
        self._market.want(topic)
        return True

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        self._market.unwant(topic)

    def snapshot(self, topic: Topic) -> Envelope | None:
        """The state after the last block applied, or NOT_READY while a book waits for its
        checkpoint."""
        return self._market.snapshot(topic)

    async def info(self, payload: bytes) -> bytes:
        """The healthiest node's answer to an info request. Raises InfoFailed when no node gives
        one."""
        reason = "no node is configured"
        for link in self._ranked():
            try:
                async with asyncio.timeout(INFO_DEADLINE_S):
                    return await link.info(payload)
            except Exception as error:  # each kind of link has its own
                reason = f"{link.name}: {error or type(error).__name__}"
        raise InfoFailed(reason)

    def state(self) -> dict[str, Any]:
        """Figures of the nodes together."""
        height, block_ns = self.tip
        return {
            "kind": "nodes",
            "height": height,
            "block_ns": block_ns,
            "books_ready": self._market.is_ready,
            "coins": len(self.catalogue.coins),
            "waiting": self._merge.waiting,
            "merge": dict(self._merge.counts),
            "compared": self._checks.compared,
            "differing": self._checks.differing,
            "faults": dict(self._faults),
        }

    def states(self) -> dict[str, dict[str, Any]]:
        """Figures of each node."""
        now_s = time.monotonic()
        coins = len(self.catalogue.coins)
        states: dict[str, dict[str, Any]] = {}
        for name, link in self._links.items():
            verdict = self._health.judge(name, now_s=now_s)
            before_s, before_bytes = self._rates.get(name, (now_s, 0))
            size, took_s = self._bytes[name], now_s - before_s
            self._rates[name] = (now_s, size)
            own = link.state()
            silent_s = verdict.silent_s
            states[name] = own | {
                "kind": "node",
                "via": own.get("kind"),
                "height": verdict.height,
                "lag": verdict.lag,
                "silent_s": None if silent_s is None else round(silent_s, 3),
                "block_age_s": round(verdict.block_age_s, 3),
                "marks": verdict.marks,
                "lagging": verdict.is_lagging,
                "stalled": verdict.is_stalled,
                "disagreeing": verdict.is_disagreeing,
                "differing": verdict.differing,
                "breaches": verdict.breaches,
                "books_ready": self._market.is_ready,
                "coins": coins,
                "bytes": size,
                "bytes_per_s": round((size - before_bytes) / took_s) if took_s > 0 else 0,
            }
        return states

    # --- reading ----------------------------------------------------------------------------------

    async def run(self, publish: Publish) -> None:
        """Read all nodes until cancelled."""
        self._publish = publish
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for link in self._links.values():
                    self._start(link)
                group.create_task(self._follow_catalogue())
                group.create_task(self._keep_books())
                group.create_task(self._watch())
        finally:
            self._group = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _start(self, link: NodeLink) -> None:
        assert self._group is not None  # noqa: S101
        self._health.join(link.name, now_s=time.monotonic())
        self._group.create_task(self._keep_link(link))

    async def _keep_link(self, link: NodeLink) -> None:
        """A link that fails is begun again; the others carry on."""
        while True:
            try:
                await link.run(
                    partial(self._deliver, link.name),
                    deliver_history=partial(self._deliver_history, link.name),
                )
            except Exception:
                log.exception("node_failed", source=link.name)
            await asyncio.sleep(RESTART_S)

    def _deliver_history(self, name: str, blocks: list[RawBlock]) -> None:
        # One node's only: another's may reach further, and what is history cannot be news.
        if self._history_of is None:
            self._history_of = name
        if name == self._history_of and self._merge.last(FileKind.FILLS) is None:
            self._market.prime(blocks)

    def _deliver(self, name: str, blocks: list[RawBlock]) -> None:
        begun_s, now_ns = time.perf_counter(), time.monotonic_ns()
        take = self._merge.take
        self._apply(
            list(
                itertools.chain.from_iterable(take(name, block, now_ns=now_ns) for block in blocks)
            )
        )
        metrics.APPLY_SECONDS.labels(self.name).observe(time.perf_counter() - begun_s)
        self._arm()
        # Only now: what follows is about the nodes, and no customer waits for it.
        self._note(name, blocks, now_s=now_ns / 1e9)

    def _on_due(self) -> None:
        self._timer = None
        self._apply(self._merge.due(time.monotonic_ns()))
        self._arm()

    def _arm(self) -> None:
        due_ns = self._merge.next_due_ns
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ns is not None:
            wait_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_due)

    def _apply(self, blocks: list[RawBlock]) -> None:
        if not blocks:
            return
        envelopes: list[Envelope] = []
        for block in blocks:
            try:
                envelopes += self._market.apply(block)
            except Exception:
                self._fail(block)
            if block.height > self._height:
                self._height = block.height
        self._publish(envelopes)

    def _fail(self, block: RawBlock) -> None:
        """A fault of ours: nothing in a file may end the worker, or leave half a block behind."""
        self._count("apply_failed")
        if "apply_failed" not in self._told:
            self._told.add("apply_failed")
            log.exception("block_not_applied", kind=str(block.kind), height=block.height)
        wanted = self._market.wanted
        self._market = _fresh_market()
        for topic in wanted:
            self._market.want(topic)

    # --- how the nodes do -------------------------------------------------------------------------

    def _note(self, name: str, blocks: list[RawBlock], *, now_s: float) -> None:
        tops: dict[FileKind, RawBlock] = {}
        for block in blocks:
            metrics.BLOCKS.labels(name, block.kind).inc()
            self._bytes[name] += sum(map(len, block.lines))
            last = self._merge.last(block.kind)
            if last is not None and block.height > last + FAR_BLOCKS:
                continue
            tops[block.kind] = block
            # A checksum costs 0.2 ms for a block's statuses; with one node there is nothing to
            # compare.
            difference = self._checks.note(name, block) if len(self._links) > 1 else None
            if difference is not None:
                self._differ(difference, now_s=now_s)
        for block in tops.values():
            age_s = _block_age_s(block)
            self._health.heard(name, block.height, now_s=now_s, block_age_s=age_s)
        for breach in self._merge.drain_breaches():
            self._health.broke_promise(breach.source, now_s=now_s)
            self._count("breach")
            log.warning(
                "node_left_blocks_out",
                source=breach.source,
                file_kind=str(breach.kind),
                height=breach.height,
            )

    def _differ(self, difference: Disagreement, *, now_s: float) -> None:
        metrics.DISAGREEMENTS.labels(difference.kind).inc()
        for name in (difference.first, difference.other):
            if not self._health.judge(name, now_s=now_s).is_disagreeing:
                log.error(
                    "nodes_disagree",
                    source=name,
                    file_kind=str(difference.kind),
                    height=difference.height,
                    forwarded=difference.first,
                )
            self._health.differed(name, now_s=now_s)

    def _ranked(self) -> list[NodeLink]:
        names = self._health.ranked(self._links, now_s=time.monotonic(), weights=self._weights)
        return [self._links[name] for name in names]

    async def _watch(self) -> None:
        """Tell when a node's marks change, and show its figures to the metrics."""
        while True:
            now_s = time.monotonic()
            for name in list(self._links):
                verdict = self._health.judge(name, now_s=now_s)
                metrics.HEIGHT.labels(name).set(verdict.height)
                metrics.LAG_BLOCKS.labels(name).set(verdict.lag)
                metrics.BLOCK_AGE.labels(name).set(verdict.block_age_s)
                for mark in ("lagging", "stalled", "disagreeing"):
                    metrics.MARKED.labels(name, mark).set(mark in verdict.marks)
                if verdict.marks != self._marks.get(name, []):
                    self._marks[name] = verdict.marks
                    log.warning(
                        "node_marked", source=name, marks=",".join(verdict.marks), lag=verdict.lag
                    )
            self._export_faults()
            await asyncio.sleep(WATCH_S)

    def _count(self, reason: str) -> None:
        self._faults[reason] += 1
        metrics.FAULTS.labels(self.name, reason).inc()

    def _export_faults(self) -> None:
        for reason, count in self._market.faults.items():
            known = self._faults.get(reason, 0)
            if count > known:
                if reason not in self._told:
                    self._told.add(reason)
                    log.warning("upstream_fault", source=self.name, reason=reason)
                metrics.FAULTS.labels(self.name, reason).inc(count - known)
                self._faults[reason] = count
        for reason, count in self._merge.counts.items():
            metrics.MERGED.labels(reason).set(count)

    # --- books ------------------------------------------------------------------------------------

    async def _keep_books(self) -> None:
        """Whenever the books are not in step, ask for a checkpoint and start them from it."""
        while True:
            metrics.BOOKS_READY.labels(self.name).set(self._market.is_ready)
            if not self._market.is_ready and self._market.has_diffs:
                if not await self._sync_books():
                    await asyncio.sleep(RETRY_S)
            await asyncio.sleep(WATCH_S)

    async def _sync_books(self) -> bool:
        for link in self._ranked():
            try:
                checkpoint = await link.checkpoint()
                # In a thread: 0.4 s for BTC alone, during which blocks must go on arriving.
                books = await asyncio.to_thread(build_books, checkpoint.coins)
                gc.unfreeze()  # the books there were go
                self._market.load_checkpoint(checkpoint.height, books)
                # Books are many objects and hardly a cycle. Left to the collector, each full pass
                # over BTC's 51,000 orders stopped the loop for 130 to 230 ms.
                gc.freeze()
            except (CheckpointError, CheckpointTooOld) as error:
                metrics.CHECKPOINTS.labels(link.name, type(error).__name__).inc()
                log.warning("checkpoint_failed", source=link.name, reason=str(error))
                continue
            metrics.CHECKPOINTS.labels(link.name, "loaded").inc()
            log.info("books_synced", source=link.name, height=checkpoint.height, coins=len(books))
            self._publish([self._market.snapshot(topic) for topic in self._market.wanted])
            return True
        return False

    # --- names ------------------------------------------------------------------------------------

    async def _follow_catalogue(self) -> None:
        while True:
            try:
                self._catalogue = await collect_catalogue(self._ask)
            except InfoFailed as failed:
                if "catalogue" not in self._told:
                    self._told.add("catalogue")
                    log.warning("catalogue_failed", source=self.name, reason=str(failed))
                await asyncio.sleep(RETRY_S)
            else:
                self._told.discard("catalogue")
                await asyncio.sleep(CATALOGUE_EVERY_S)

    async def _ask(self, body: dict[str, Any]) -> Any:
        try:
            return orjson.loads(await self.info(orjson.dumps(body)))
        except orjson.JSONDecodeError as error:
            raise InfoFailed(f"{body['type']}: not JSON") from error


def _fresh_market() -> Market:
    return Market(epoch=uuid.uuid4().hex[:12])


def _block_age_s(block: RawBlock) -> float:
    """How long after its own time the block was read; 0 when its line does not say."""
    line = block.lines[0] if block.lines else b""
    begin = line.find(_BLOCK_TIME, 0, 200)
    if begin < 0:
        return 0.0
    begin += len(_BLOCK_TIME)
    text = line[begin : line.find(b'"', begin, begin + 40)].decode("ascii", "replace")
    try:
        return (block.read_ns - parse_time_ns(text)) / 1e9
    except (ValueError, OverflowError):
        return 0.0
