"""Real gateway processes, and what a link to one delivers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from streaming.core.blocks import MARKET_KINDS, FileKind, LateBlock, OpenBlock, RawBlock
from streaming.upstream.links import GatewayNode
from streaming.upstream.spec import parse_upstreams
from tests.support.services import start_process, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
_LISTENS = re.compile(r"listens on (\S+):(\d+),")


class GatewayProcess:
    """One gateway beside `data`. Started again, it listens where it did before."""

    def __init__(self, data: Path, *, log: Path, options: tuple[str, ...] = ()) -> None:
        self.data, self.log, self.options = data, log, options
        self.port = 0
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GatewayProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def text(self) -> str:
        """All it ever printed."""
        return self.log.read_text("utf-8", "replace")

    def start(self) -> None:
        command = [sys.executable, "-m", "streaming.hl_gateway", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        self.process = start_process(command, log=self.log)
        self.starts += 1
        process = self.process

        def listens() -> bool:
            return len(_LISTENS.findall(self.text)) == self.starts

        wait_until(listens, what="the gateway", log=self.log, process=process)
        self.port = int(_LISTENS.findall(self.text)[-1][1])

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


class Delivered:
    """What a link delivered; waits for a condition on it instead of for time."""

    def __init__(self, link: GatewayNode) -> None:
        self.link = link
        self.blocks: list[RawBlock] = []
        self.history: list[RawBlock] = []
        self.open: list[OpenBlock] = []
        self._news = asyncio.Event()

    def take(self, blocks: list[RawBlock]) -> None:
        self.blocks += blocks
        self._news.set()

    def take_open(self, block: OpenBlock) -> None:
        self.open.append(block)
        self._news.set()

    def heights(self, kind: FileKind, *, late: bool = False) -> list[int]:
        return [
            b.height for b in self.blocks if b.kind is kind and isinstance(b, LateBlock) is late
        ]

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self._news.clear()
                # What is not a delivery (a state) is looked at now and then.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.02)


def gateway_link(
    address: str,
    *,
    scratch: Path,
    kinds: tuple[FileKind, ...] = MARKET_KINDS,
    parameters: str = "",
) -> GatewayNode:
    """A link as `RELAY_UPSTREAMS` would give it."""
    (spec,) = parse_upstreams(f"gateway://{address}{parameters}")
    return GatewayNode(spec, name="node0", scratch=scratch, kinds=kinds)


@asynccontextmanager
async def following(link: GatewayNode, *, joined: bool = True) -> AsyncIterator[Delivered]:
    """The link runs, and has joined, within the block."""
    delivered = Delivered(link)
    task = asyncio.create_task(
        link.run(
            delivered.take,
            deliver_history=delivered.history.extend,
            deliver_open=delivered.take_open,
        )
    )
    try:
        if joined:
            await delivered.until(lambda: link.state()["connected"])
        yield delivered
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
