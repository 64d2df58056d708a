"""A node on this host: its files → books and trades, kept in step with its checkpoints."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.books import build_books
from streaming.core.catalogue import Catalogue
from streaming.core.envelope import Envelope
from streaming.core.market import CheckpointTooOld, Market
from streaming.core.topic import Topic
from streaming.hl_gateway.checkpoint import CheckpointError, request_checkpoint
from streaming.hl_gateway.tail import NodeTail
from streaming.upstream import metrics
from streaming.upstream.sources.base import Publish
from streaming.upstream.sources.info import InfoFailed, read_catalogue
from streaming.upstream.spec import UpstreamSpec

log = structlog.get_logger(__name__)

CATALOGUE_EVERY_S = 60.0
RETRY_S = 2.0
#: How often to look whether the books still follow the files (a hole makes them wait for a new
#: checkpoint).
WATCH_S = 0.1
#: Recent fills read at the start, so that a trades subscription opens with the coin's last 30
#: trades.
HISTORY_BYTES = 4 * 1024 * 1024


class FilesSource:
    """Implements `Source` on a node's data folder."""

    def __init__(self, spec: UpstreamSpec, *, name: str, scratch: Path) -> None:
        self.name = name
        self._spec = spec
        self._scratch = scratch
        self._begin()
        self._catalogue = Catalogue()
        self._has_run = False
        self._publish: Publish = lambda envelopes: None
        self._height = 0
        self._heard_at_s = 0.0
        self._block_age_s = 0.0
        self._faults: dict[str, int] = {}

    def _begin(self, wanted: Sequence[Topic] = ()) -> None:
        """Start from nothing: a tail runs once, and a failed run's books have missed blocks."""
        self._market = Market(epoch=uuid.uuid4().hex[:12])
        self._tail = NodeTail(
            Path(self._spec.address), tail_back_bytes={FileKind.FILLS: HISTORY_BYTES}
        )
        for topic in wanted:
            self._market.want(topic)

    @property
    def catalogue(self) -> Catalogue:
        """The node's own list, and whatever its files have shown besides."""
        seen = self._market.coins()
        if seen <= self._catalogue.coins:
            return self._catalogue
        return Catalogue(self._catalogue.coins | seen, self._catalogue.dexes)

    def serves(self, topic: Topic) -> bool:
        """Whether the node knows the coin."""
        return self.catalogue.knows(topic)

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

    def state(self) -> dict[str, Any]:
        """Live figures for the heartbeat."""
        heard = self._heard_at_s
        return {
            "kind": "node",
            "height": self._height,
            "silent_s": round(time.monotonic() - heard, 3) if heard else None,
            "block_age_s": round(self._block_age_s, 3),
            "books_ready": self._market.is_ready,
            "coins": len(self.catalogue.coins),
            "faults": dict(self._faults),
        }

    async def run(self, publish: Publish) -> None:
        """Follow the files until cancelled."""
        self._publish = publish
        if self._has_run:
            self._begin(self._market.wanted)
        self._has_run = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tail.run(self._deliver, deliver_history=self._market.prime))
            group.create_task(self._follow_catalogue())
            group.create_task(self._keep_books())

    def _deliver(self, blocks: list[RawBlock]) -> None:
        begun_s = time.perf_counter()
        apply = self._market.apply
        self._publish(list(itertools.chain.from_iterable(apply(block) for block in blocks)))
        metrics.APPLY_SECONDS.labels(self.name).observe(time.perf_counter() - begun_s)
        self._heard_at_s = time.monotonic()
        for block in blocks:
            metrics.BLOCKS.labels(self.name, block.kind).inc()
            if block.height > self._height:
                self._height = block.height
        metrics.HEIGHT.labels(self.name).set(self._height)
        if self._market.block_time_ns:
            self._block_age_s = (time.time_ns() - self._market.block_time_ns) / 1e9
            metrics.BLOCK_AGE.labels(self.name).set(self._block_age_s)

    # --- books ---

    async def _keep_books(self) -> None:
        """Whenever the books are not in step, ask for a checkpoint and start them from it."""
        while True:
            metrics.BOOKS_READY.labels(self.name).set(self._market.is_ready)
            self._note_faults()
            if self._market.is_ready or self._spec.info_url is None or not self._market.has_diffs:
                await asyncio.sleep(WATCH_S)
            elif not await self._sync_books(self._spec.info_url):
                await asyncio.sleep(RETRY_S)

    async def _sync_books(self, info_url: str) -> bool:
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / f"checkpoint-{self.name}.json"
        try:
            checkpoint = await request_checkpoint(info_url, path)
            # In a thread: 0.4 s for BTC alone, during which blocks must go on arriving.
            books = await asyncio.to_thread(build_books, checkpoint.coins)
            self._market.load_checkpoint(checkpoint.height, books)
        except (CheckpointError, CheckpointTooOld) as error:
            metrics.CHECKPOINTS.labels(self.name, type(error).__name__).inc()
            log.warning("checkpoint_failed", source=self.name, reason=str(error))
            return False
        finally:
            path.unlink(missing_ok=True)
        metrics.CHECKPOINTS.labels(self.name, "loaded").inc()
        log.info("books_synced", source=self.name, height=checkpoint.height, coins=len(books))
        self._publish([self._market.snapshot(topic) for topic in self._market.wanted])
        return True

    async def _follow_catalogue(self) -> None:
        if self._spec.info_url is None:
            return
        while True:
            try:
                self._catalogue = await read_catalogue(self._spec.info_url)
            except InfoFailed as failed:
                log.warning("catalogue_failed", source=self.name, reason=str(failed))
                await asyncio.sleep(RETRY_S)
            else:
                await asyncio.sleep(CATALOGUE_EVERY_S)

    def _note_faults(self) -> None:
        # One log line a kind: a node that writes garbage writes a lot of it.
        for fault in self._tail.drain_faults():
            log.warning(
                "upstream_fault",
                source=self.name,
                reason=str(fault.reason),
                file_kind=str(fault.kind),
                sample=fault.sample.decode("utf-8", "replace"),
            )
        for reason, count in itertools.chain(
            self._tail.faults.items(), self._market.faults.items()
        ):
            known = self._faults.get(reason, 0)
            if count > known:
                if not known and reason in self._market.faults:
                    log.warning("upstream_fault", source=self.name, reason=reason)
                metrics.FAULTS.labels(self.name, reason).inc(count - known)
                self._faults[reason] = count
