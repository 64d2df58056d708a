"""All nodes as one source: links → merge → one market → envelopes.

Every worker reads every node, so what it publishes is a pure function of the chain and equal to
what the other worker publishes. A node that fails, stalls, lags or disagrees is marked and read on;
the others go on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import orjson
import structlog

from streaming.core.blocks import FileKind, OpenBlock, RawBlock
from streaming.core.catalogue import Catalogue
from streaming.core.envelope import ORIGIN, Envelope, Role
from streaming.core.market import BOOK_KINDS, CheckpointTooOld, Market
from streaming.core.merge import BlockMerge
from streaming.core.tips import Tips
from streaming.core.topic import Kind, Topic
from streaming.hl_gateway.checkpoint import Checkpoint
from streaming.upstream import metrics
from streaming.upstream.node_watch import NodeWatch
from streaming.upstream.schema_watch import SchemaWatch
from streaming.upstream.sources.base import Publish
from streaming.upstream.sources.book_check import BookCheck, BookCheckResult
from streaming.upstream.sources.checkpoints import HEDGE_S, Found, checkpoints, refuse
from streaming.upstream.sources.info import InfoFailed, collect_catalogue, pause_s

log = structlog.get_logger(__name__)

CATALOGUE_EVERY_S = 60.0
INFO_DEADLINE_S = 10.0
RETRY_S = 2.0
RESTART_S = 1.0
#: How often to look whether the books still follow the files (a hole makes them wait for a new
#: checkpoint), and whether a node's marks changed.
WATCH_S = 0.1
#: When nodes disagreed on book changes, or some did not fit, the books are compared with a
#: checkpoint, at most this often.
BOOK_CHECK_EVERY_S = 30.0
#: And this often although nothing speaks against them: a checkpoint of all coins costs a node
#: seconds and some hundred MB.
CHECK_EVERY_S = 600.0
#: Nobody waits for a comparison, so a slow node is left its time before the next is asked too.
CHECK_HEDGE_S = 60.0
#: What is counted when a change does not fit into the books.
DRIFT = ("bad_diff", "duplicate_new", "size_mismatch", "unknown_oid")
#: Files of which nothing is wanted are taken in this much later: a trade nobody follows cost a book
#: that somebody does 0.3 ms, and the edge on the same core as much again; a block's statuses of BTC
#: alone take 1 ms. Blocks come every 70 ms.
UNAWAITED_S = 0.01
#: States that are not shown while they are old. Changes that come late are still of use.
OLD_STATES = frozenset({Kind.L2_BOOK, Kind.BBO, Kind.ALL_MIDS})
CHANGES_STOPPED = "No node writes book changes (node_raw_book_diffs) while its other files go on"
#: The files that are read of every node.
NODE_FILES = tuple(FileKind)


class NodeLink(Protocol):
    """One node, wherever it is. `streaming.upstream.links` has those there are."""

    name: str

    async def run(
        self,
        deliver: Callable[[list[RawBlock]], None],
        *,
        deliver_history: Callable[[list[RawBlock]], None],
        deliver_open: Callable[[OpenBlock], None],
    ) -> None:
        """Deliver closed blocks until cancelled; what was there before goes to `deliver_history`,
        the lines so far of a block of fills that may get more to `deliver_open`."""

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
        epoch: str = "",
        weights: Mapping[str, int] | None = None,
        check_every_s: float = CHECK_EVERY_S,
        schema: SchemaWatch | None = None,
    ) -> None:
        """`check_every_s`: how often the books are compared with a checkpoint, come what may."""
        self._schema = schema
        self.name = name
        self._links = {link.name: link for link in links}
        self._weights = dict(weights or {})
        self._epoch = epoch
        self._market = Market(epoch=epoch)
        self._merge = BlockMerge(self._links)
        self._watch = NodeWatch(on_book_difference=self._doubt_books)
        self._book_check: BookCheck | None = None
        self._must_check_at_s: float | None = None
        self._synced_at_s = self._checked_at_s = float("-inf")
        self._check_every_s = check_every_s
        self._doubt_every_s = BOOK_CHECK_EVERY_S
        self._is_doubted = False  # something speaks against the books since the last comparison
        self._drift = 0  # changes that did not fit into the books
        self._catalogue = Catalogue()
        self._answering: dict[Any, str] = {}  # by type of info request: the node that did last
        self._publish: Publish = lambda envelopes: None
        self._history_of: str | None = None
        self._tips = Tips()
        self._is_stopped = False  # the book changes, while other files go on
        self._faults: Counter[str] = Counter()
        self._told: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        # What nobody waits for, as it came: the node, its blocks, and when (monotonic, ns).
        self._unawaited: list[tuple[str, list[RawBlock], int]] = []
        self._unawaited_turn: asyncio.TimerHandle | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

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
        return self._tips.top, self._market.block_time_ns

    @property
    def heights(self) -> tuple[int, ...]:
        """Up to where each kind of file is handed on, as `streaming.core.tips` says."""
        return self._tips.heights

    @property
    def is_ready(self) -> bool:
        """Whether there are books, and they follow the blocks."""
        return self._market.is_ready and not self._is_stopped

    def set_epoch(self, epoch: str) -> None:
        """Everything from now on carries `epoch`."""
        self._epoch = epoch
        self._market.set_epoch(epoch)

    def serves(self, topic: Topic) -> bool:
        """Whether node files hold the topic and the nodes know its coin."""
        return bool(self._links) and self._market.can_serve(topic) and self.catalogue.knows(topic)

    def want(self, topic: Topic, tenants: Collection[str] = ()) -> bool:
        """Publish the topic from the next block on."""
        self._take_unawaited()
        self._market.want(topic)
        return True

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        self._market.unwant(topic)

    def snapshot(self, topic: Topic) -> Envelope | None:
        """The state after the last block applied, or NOT_READY while a book waits for its
        checkpoint. None for trades before the first block: nothing can be said of what came before.
        """
        if topic.kind is Kind.TRADES and not self._market.has_fills:
            return None
        if self._is_stopped and topic.kind in BOOK_KINDS:
            return self._stopped(topic)
        return self._market.snapshot(topic)

    async def info(self, payload: bytes) -> bytes:
        """The healthiest node's answer to an info request. Raises InfoFailed when no node gives
        one.

        Requests of one type go on to the node that answered the last, until it fails or is marked:
        nodes are not at the same block, and what they answer in turn runs back and forth in time.
        """
        why, kind = InfoFailed("no node is configured"), orjson.loads(payload).get("type")
        failed: list[InfoFailed] = []
        for link in self._ranked(first=self._answering.get(kind)):
            try:
                async with asyncio.timeout(INFO_DEADLINE_S):
                    answer = await link.info(payload)
                self._answering[kind] = link.name
                return answer
            except Exception as error:  # each kind of link has its own
                failed.append(InfoFailed(f"{link.name}: {error or type(error).__name__}"))
        # Only what all refuse is refused: another may know it another time.
        raise next((each for each in failed if not each.is_refusal), (failed or [why])[-1])

    def state(self) -> dict[str, Any]:
        """Figures of the nodes together."""
        height, block_ns = self.tip
        return {
            "kind": "nodes",
            "height": height,
            "block_ns": block_ns,
            "books_ready": self.is_ready,
            "coins": len(self.catalogue.coins),
            "waiting": self._merge.waiting,
            "merge": dict(self._merge.counts),
            "compared": self._watch.checks.compared,
            "differing": self._watch.checks.differing,
            "faults": dict(self._faults),
        }

    def states(self) -> dict[str, dict[str, Any]]:
        """Figures of each node."""
        ours = {"books_ready": self.is_ready, "coins": len(self.catalogue.coins)}
        states: dict[str, dict[str, Any]] = {}
        for name, link in self._links.items():
            its = link.state()
            states[name] = (
                its | {"kind": "node", "via": its.get("kind")} | self._watch.figures(name) | ours
            )
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
                group.create_task(self._show())
        finally:
            self._group = None
            self._tasks.clear()
            for timer in (self._timer, self._unawaited_turn):
                if timer is not None:
                    timer.cancel()
            self._timer = self._unawaited_turn = None
            self._unawaited.clear()

    def use(self, links: Sequence[NodeLink], *, weights: Mapping[str, int]) -> None:
        """Read these nodes from now on: others are let go, new ones begun, the rest untouched."""
        self._weights = dict(weights)
        fresh = {link.name: link for link in links}
        for name in self._links.keys() - fresh.keys():
            del self._links[name]
            if task := self._tasks.pop(name, None):
                task.cancel()
            self._watch.leave(name)
            self._merge.leave(name)
        for name in fresh.keys() - self._links.keys():
            self._links[name] = fresh[name]
            self._merge.join(name)
            if self._group is not None:
                self._start(fresh[name])
        self._on_due()

    def _start(self, link: NodeLink) -> None:
        assert self._group is not None  # noqa: S101
        self._watch.join(link.name)
        self._tasks[link.name] = self._group.create_task(self._keep_link(link))

    async def _keep_link(self, link: NodeLink) -> None:
        """A link that fails is begun again; the others carry on."""
        while True:
            try:
                await link.run(
                    partial(self._deliver, link.name),
                    deliver_history=partial(self._deliver_history, link.name),
                    deliver_open=partial(self._deliver_open, link.name),
                )
            except Exception:
                log.exception("node_failed", source=link.name)
            await asyncio.sleep(RESTART_S)

    def _deliver_history(self, name: str, blocks: list[RawBlock]) -> None:
        # One node's only: another's may reach further, and what is history cannot be news.
        if self._history_of is None:
            self._history_of = name
        if name != self._history_of or self._merge.has_begun(FileKind.FILLS):
            return
        self._market.prime(blocks)
        # Live blocks follow on it, or the last trades would have a hole in them: another node's
        # first block may be a few further.
        for block in blocks:
            if block.kind is FileKind.FILLS:
                self._merge.begin_after(block.kind, block.height)

    def _deliver(self, name: str, blocks: list[RawBlock]) -> None:
        now_ns, awaits = time.monotonic_ns(), self._market.awaits
        awaited = [block for block in blocks if awaits(block.kind)]
        if len(awaited) < len(blocks):
            others = [block for block in blocks if not awaits(block.kind)]
            # Each kind of file keeps its order: `want` takes in what waits.
            self._unawaited.append((name, others, now_ns))
            if self._unawaited_turn is None:
                loop = asyncio.get_running_loop()
                self._unawaited_turn = loop.call_later(UNAWAITED_S, self._take_unawaited)
        if awaited:
            self._take(name, awaited, now_ns=now_ns)

    def _take_unawaited(self) -> None:
        if self._unawaited_turn is not None:
            self._unawaited_turn.cancel()
            self._unawaited_turn = None
        unawaited, self._unawaited = self._unawaited, []
        for name, blocks, now_ns in unawaited:
            self._take(name, blocks, now_ns=now_ns)

    def _take(self, name: str, blocks: list[RawBlock], *, now_ns: int) -> None:
        if name not in self._links:
            return
        begun_s = time.perf_counter()
        out: list[RawBlock] = []
        for block in blocks:
            try:
                out += self._merge.take(name, block, now_ns=now_ns)
            except Exception:
                # Left out: the next block of this node says what came before it, so a hole that
                # nobody fills is told. What was handed out before is handed out only once.
                self._fail_merge(name, block)
        self._apply(out)
        metrics.APPLY_SECONDS.labels(self.name).observe(time.perf_counter() - begun_s)
        self._arm()
        # Only now: what follows is about the nodes, and no customer waits for it.
        now_s = now_ns / 1e9
        self._watch.note(name, filter(self._can_be, blocks), now_s=now_s)
        self._watch.breached(self._merge.drain_breaches(), now_s=now_s)
        if self._schema is not None:
            self._schema.lines(name, blocks, now_ns=now_ns)

    def _deliver_open(self, name: str, block: OpenBlock) -> None:
        if name not in self._links or not self._merge.can_be(block.height):
            return
        try:
            envelopes = self._market.apply_open(block, source=name)
        except Exception:
            self._fail(block)
        else:
            if envelopes:
                self._publish(envelopes)

    def _can_be(self, block: RawBlock) -> bool:
        return self._merge.can_be(block.height)

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
            self._tips.note(block)
            if self._book_check is not None:
                self._book_check.keep(block)
        if self._is_stopped:
            envelopes = [e for e in envelopes if e.topic.partition(" ")[0] not in OLD_STATES]
        self._publish(envelopes)

    def _fail_merge(self, name: str, block: RawBlock) -> None:
        """A fault of ours, and one block's: all others go on."""
        self._count("merge_failed")
        if "merge_failed" not in self._told:
            self._told.add("merge_failed")
            log.exception(
                "block_not_merged", source=name, kind=str(block.kind), height=block.height
            )

    def _fail(self, block: RawBlock) -> None:
        """A fault of ours: nothing in a file may end the worker, or leave half a block behind."""
        self._count("apply_failed")
        if "apply_failed" not in self._told:
            self._told.add("apply_failed")
            log.exception("block_not_applied", kind=str(block.kind), height=block.height)
        if self._book_check is not None:
            self._book_check.call_off()
        wanted = self._market.wanted
        self._market = Market(epoch=self._epoch)
        for topic in wanted:
            self._market.want(topic)

    # --- how the nodes do -------------------------------------------------------------------------

    def _ranked(self, *, first: str | None = None) -> list[NodeLink]:
        """The healthiest node first; before it `first`, while nothing is to be said of it."""
        names = self._watch.ranked(self._links, weights=self._weights)
        if first in names and not self._watch.judge(first).marks:
            names.sort(key=lambda name: name != first)
        return [self._links[name] for name in names]

    async def _show(self) -> None:
        while True:
            self._watch.show(list(self._links))
            self._look_at_changes()
            self._export_faults()
            await asyncio.sleep(WATCH_S)

    def _look_at_changes(self) -> None:
        """Books are as old as their changes, however new the other files are."""
        is_stopped = FileKind.DIFFS in self._tips.stopped
        if is_stopped == self._is_stopped:
            return
        self._is_stopped = is_stopped
        log.warning("book_changes_stopped" if is_stopped else "book_changes_back", tip=self.tip[0])
        told = (self.snapshot(topic) for topic in self._market.wanted if topic.kind in BOOK_KINDS)
        self._publish([envelope for envelope in told if envelope is not None])

    def _stopped(self, topic: Topic) -> Envelope:
        return Envelope(
            topic.name, self._epoch, ORIGIN, ORIGIN, Role.NOT_READY, CHANGES_STOPPED.encode()
        )

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

    def _doubt_books(self, now_s: float, *, every_s: float = BOOK_CHECK_EVERY_S) -> None:
        self._is_doubted = True
        self._check_again(now_s, every_s=every_s)

    def _check_again(self, now_s: float, *, every_s: float) -> None:
        at_s = max(now_s, self._checked_at_s + every_s)
        if self._must_check_at_s is None or at_s < self._must_check_at_s:
            self._must_check_at_s = at_s

    # --- books ------------------------------------------------------------------------------------

    async def _keep_books(self) -> None:
        """Whenever the books are not in step, ask for a checkpoint and start them from it; when
        something speaks against them, and every `check_every_s`, compare them with one.
        """
        while True:
            metrics.BOOKS_READY.labels(self.name).set(self.is_ready)
            try:
                await self._tend_books()
            except Exception:  # of ours: the blocks must go on
                log.exception("books_failed", source=self.name)
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(WATCH_S)

    async def _tend_books(self) -> None:
        if not self._market.is_ready:
            begun_s = time.monotonic()
            if self._market.has_diffs and not await self._sync_books():
                # A node writes all its orders each time: not for more than half of its time.
                await asyncio.sleep(max(RETRY_S, time.monotonic() - begun_s))
            return
        self._look_at_drift()
        due_s = max(self._synced_at_s, self._checked_at_s) + self._check_every_s
        if self._must_check_at_s is not None:
            due_s = min(due_s, self._must_check_at_s)
        if time.monotonic() >= due_s:
            await self._check_books()

    def _look_at_drift(self) -> None:
        """Changes that did not fit are a sign of a wrong book, also with a single node."""
        faults = self._market.faults
        drift = sum(faults[reason] for reason in DRIFT)
        if drift > self._drift:
            self._doubt_books(time.monotonic(), every_s=self._doubt_every_s)
        self._drift = drift

    def _checkpoints(self, *, hedge_s: float) -> AsyncGenerator[Found]:
        return checkpoints(self._ranked(), tip=lambda: self._tips.top, hedge_s=hedge_s)

    async def _sync_books(self) -> bool:
        async with contextlib.aclosing(self._checkpoints(hedge_s=HEDGE_S)) as found:
            async for source, height, books in found:
                try:
                    self._market.load_checkpoint(height, books)
                except CheckpointTooOld as error:
                    refuse(source, error)
                    continue
                self._synced_at_s = time.monotonic()
                # A full collection walks every order, 0.2 s for 205,000, every some minutes.
                # Frozen, the books are left out of it (0.1 ms), and still freed when they go.
                gc.freeze()
                metrics.CHECKPOINTS.labels(source, "loaded").inc()
                log.info("books_synced", source=source, height=height, coins=len(books))
                snapshots = (self.snapshot(topic) for topic in self._market.wanted)
                self._publish([snapshot for snapshot in snapshots if snapshot is not None])
                return True
        return False

    async def _check_books(self) -> None:
        """Compare the books with a checkpoint, and start those anew that differ. Nothing stops
        meanwhile.
        """
        self._must_check_at_s, self._checked_at_s = None, time.monotonic()
        was_doubted, self._is_doubted = self._is_doubted, False
        # Made before the first is asked: it keeps the changes since.
        check = self._book_check = BookCheck(self._market)
        comparing = asyncio.ensure_future(self._compare(check, was_doubted=was_doubted))
        broken = asyncio.ensure_future(check.broken())
        try:
            # Lost books wait for a checkpoint of now: the one on its way is of a block before.
            await asyncio.wait([comparing, broken], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._book_check = None
            comparing.cancel()
            broken.cancel()
            await asyncio.gather(comparing, broken, return_exceptions=True)
        if not self._market.is_ready or (not comparing.cancelled() and comparing.result()):
            return
        # Still to be done, and for the same reason.
        self._is_doubted = self._is_doubted or was_doubted
        self._be_patient()
        self._check_again(time.monotonic(), every_s=self._doubt_every_s)

    async def _compare(self, check: BookCheck, *, was_doubted: bool) -> bool:
        """Whether there was a checkpoint to compare with."""
        async with contextlib.aclosing(self._checkpoints(hedge_s=CHECK_HEDGE_S)) as found:
            async for source, height, books in found:
                try:
                    result = await check.compare(height, books)
                except CheckpointTooOld as error:
                    refuse(source, error)
                    continue
                self._note_check(source, result, was_doubted=was_doubted)
                return True
        return False

    def _be_patient(self) -> None:
        """A checkpoint costs the node: what comes to nothing is tried ever more rarely."""
        self._doubt_every_s = min(2 * self._doubt_every_s, self._check_every_s)

    def _note_check(self, source: str, result: BookCheckResult, *, was_doubted: bool) -> None:
        metrics.CHECKPOINTS.labels(source, "compared").inc()
        if was_doubted and not result.coins:
            self._be_patient()
            return
        # Also when it was but time for it: the next doubt is a new one.
        self._doubt_every_s = BOOK_CHECK_EVERY_S
        if not result.coins:
            return
        metrics.BOOKS_CORRECTED.inc(len(result.coins))
        log.error(
            "books_corrected",
            source=source,
            height=result.height,
            coins=",".join(sorted(result.coins)[:20]),
        )
        self._publish(result.envelopes)

    # --- names ------------------------------------------------------------------------------------

    async def _follow_catalogue(self) -> None:
        failures = 0
        while True:
            if not self._links:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                read = await collect_catalogue(self._ask, before=self._catalogue)
            except InfoFailed as failed:
                if "catalogue" not in self._told:
                    self._told.add("catalogue")
                    log.warning("catalogue_failed", source=self.name, reason=str(failed))
                await asyncio.sleep(RETRY_S)
            else:
                self._told.discard("catalogue")
                self._catalogue = read.catalogue
                failures = 0 if read.is_whole else failures + 1
                await asyncio.sleep(
                    pause_s(failures, least_s=RETRY_S, most_s=CATALOGUE_EVERY_S)
                    if failures
                    else CATALOGUE_EVERY_S
                )

    async def _ask(self, body: dict[str, Any]) -> Any:
        try:
            return orjson.loads(await self.info(orjson.dumps(body)))
        except orjson.JSONDecodeError as error:
            raise InfoFailed(f"{body['type']}: not JSON") from error
