"""A node on this host as a link: its files, its checkpoints, its `/info`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from streaming.core.blocks import MARKET_KINDS, FileKind, OpenBlock, RawBlock
from streaming.core.without_secrets import without_secrets
from streaming.hl_gateway.checkpoint import Checkpoint, CheckpointError, request_checkpoint
from streaming.hl_gateway.tail import NodeTail
from streaming.upstream import metrics
from streaming.upstream.sources.info import NO_ADDRESS, TIMEOUT, InfoFailed, read_body
from streaming.upstream.spec import UpstreamSpec

log = structlog.get_logger(__name__)

#: Recent fills read at the start, so that a trades subscription opens with the coin's last 30
#: trades.
HISTORY_BYTES = 4 * 1024 * 1024


class LocalNode:
    """A node on this host: its files, and its `/info`."""

    def __init__(
        self,
        spec: UpstreamSpec,
        *,
        name: str,
        scratch: Path,
        kinds: Collection[FileKind] = MARKET_KINDS,
    ) -> None:
        """`scratch` is a folder of ours alone that the node can write its checkpoints to."""
        self.name = name
        self._spec, self._scratch, self._kinds = spec, scratch, tuple(kinds)
        self._tail: NodeTail | None = None
        self._faults: dict[str, int] = {}
        self._checkpoints = 0

    async def run(
        self,
        deliver: Callable[[list[RawBlock]], None],
        *,
        deliver_history: Callable[[list[RawBlock]], None],
        deliver_open: Callable[[OpenBlock], None],
    ) -> None:
        """Deliver closed blocks until cancelled; fills that were there before go to
        `deliver_history`, the lines so far of an open block of fills to `deliver_open`.
        """
        tail = self._tail = NodeTail(
            Path(self._spec.address),
            kinds=self._kinds,
            tail_back_bytes={FileKind.FILLS: HISTORY_BYTES},
        )

        def take(blocks: list[RawBlock]) -> None:
            deliver(blocks)
            self._note_faults(tail)

        await tail.run(take, deliver_history=deliver_history, deliver_open=deliver_open)

    async def checkpoint(self) -> Checkpoint:
        """All resting orders after some recent block. Raises CheckpointError."""
        if self._spec.info_url is None:
            raise CheckpointError(f"{self.name} has no info= address to ask for a checkpoint")
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._checkpoints += 1  # two may be asked for at a time
        path = self._scratch / f"checkpoint-{self.name}-{self._checkpoints}.json"
        try:
            return await request_checkpoint(self._spec.info_url, path)
        except CheckpointError as error:
            raise CheckpointError(self._told(error)) from error
        finally:
            path.unlink(missing_ok=True)

    async def info(self, payload: bytes) -> bytes:
        """The node's answer to an info request. Raises InfoFailed."""
        url = self._spec.info_url
        if url is None:
            raise InfoFailed(f"{self.name} {NO_ADDRESS}")
        headers = {"content-type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.post(url, data=payload, headers=headers) as answer,
            ):
                body = await read_body(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise InfoFailed(self._told(error) or type(error).__name__) from error
        if answer.status != 200:
            raise InfoFailed(f"HTTP {answer.status}")
        return body

    def state(self) -> dict[str, Any]:
        """Live figures."""
        return {
            "kind": "files",
            "address": self._spec.address,
            "info_url": without_secrets(self._spec.info_url or "") or None,
            "kinds": self._kinds_state(),
            "faults": dict(self._faults),
        }

    def _told(self, error: Exception) -> str:
        url = self._spec.info_url or ""
        return str(error).replace(url, without_secrets(url)) if url else str(error)

    def _kinds_state(self) -> dict[str, dict[str, Any]]:
        if self._tail is None:
            return {}
        now_ns = time.time_ns()
        return {
            str(kind): {
                "mode": state.mode,
                "height": max(0, state.height or 0),
                "silent_s": round((now_ns - state.last_growth_ns) / 1e9, 3)
                if state.last_growth_ns
                else -1.0,
                "backlog_bytes": state.backlog_bytes,
            }
            for kind, state in self._tail.state().items()
        }

    def _note_faults(self, tail: NodeTail) -> None:
        # One log line a kind: a node that writes garbage writes a lot of it.
        for fault in tail.drain_faults():
            log.warning(
                "upstream_fault",
                source=self.name,
                reason=str(fault.reason),
                file_kind=str(fault.kind),
                sample=fault.sample.decode("utf-8", "replace"),
            )
        for reason, count in tail.faults.items():
            known = self._faults.get(reason, 0)
            if count > known:
                metrics.FAULTS.labels(self.name, reason).inc(count - known)
                self._faults[reason] = count
