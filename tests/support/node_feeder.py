"""`python -m tests.support.node_feeder`: one node of a pair, as its disk and its /info show it.

Copies the lines of a pristine node directory into a directory of its own, a block at a time, with
whatever faults it is told: `POST /control` takes one JSON object, `{"do":"delay","ms":500}`, and
answers with the state. Two feeders of one pristine directory are two honest nodes: equal events for
a height, another `local_time`.

    do           fields                  what happens
    delay        ms                      each block is written so much later
    lag          blocks                  the newest blocks are held back
    stall        -                       nothing is written, /info does not answer
    resume       lose (false)            what piled up is written at once, or is lost
    drop         first, last, kinds      lines of these heights are never written
    lie          height, coin            one trade at or after the height gets another price
    torn         ms                      each line in two writes, so far apart; 0 ends it
    rotate       -                       on with the next hour's file
    truncate     -                       the current files are cut to nothing, and written on
    restart_gap  blocks                  half a line is left, then so many blocks are missing
    heal         -                       no delay, lag, stall or tearing from now on
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.pristine import FILLS, HEAD, KINDS, hour_files

#: The pristine files are looked at this often. Twenty times a block's 70 ms, for 2 % of a core.
POLL_S = 0.0035
INFO_DEADLINE_S = 10.0
_PX = re.compile(rb'"px":"([^"]+)"')


@dataclass(slots=True)
class Block:
    """The lines of one height, by kind, and when they were all there (monotonic, s)."""

    height: int
    lines: dict[str, bytes] = field(default_factory=dict)
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Drop:
    """Heights whose lines never reach this node's disk."""

    first: int
    last: int
    kinds: frozenset[str]


class PristineTail:
    """Whole blocks of a growing pristine directory, in order, after height `after`."""

    def __init__(self, directory: Path, *, after: int = 0) -> None:
        self._directory, self._after = directory, after
        self._offsets: dict[Path, int] = {}
        self._open: dict[int, Block] = {}
        self._paths: dict[str, list[Path]] = {}
        self._listed_s = 0.0

    def read(self, *, now_s: float) -> Iterator[Block]:
        """The blocks that are complete since the last call."""
        if now_s - self._listed_s > 0.5 or not all(self._paths.values()):
            self._paths = {kind: hour_files(self._directory, kind) for kind in KINDS}
            self._listed_s = now_s
        for kind in KINDS:
            for path in self._paths[kind][-2:] if self._offsets else self._paths[kind]:
                self._read(kind, path)
        for height in sorted(self._open):
            block = self._open[height]
            if len(block.lines) < len(KINDS):
                return
            block.at_s = now_s
            yield self._open.pop(height)

    def _read(self, kind: str, path: Path) -> None:
        offset = self._offsets.setdefault(path, 0)
        if path.stat().st_size == offset:
            return
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._offsets[path] = offset + end
        for line in data[:end].splitlines():
            head = HEAD.match(line)
            assert head is not None, line[:200]
            height = int(head[3])
            if height > self._after:
                self._open.setdefault(height, Block(height)).lines[kind] = line


class NodeDisk:
    """Hour files of one node, `local_time` stamped at each write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, tuple[Path, int]] = {}
        self.hours_ahead = 0

    def last_height(self) -> int:
        """The highest height on disk; 0 when there is none."""
        heights = [0]
        for kind in KINDS:
            for path in hour_files(self._directory, kind)[-2:]:
                heights += [int(head[3]) for head in HEAD.finditer(path.read_bytes())][-1:]
        return max(heights)

    def stamp(self, line: bytes) -> bytes:
        """The line as this node writes it now."""
        head = HEAD.match(line)
        assert head is not None
        now_ns = time.time_ns()
        at = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
        local = f"{at:%Y-%m-%dT%H:%M:%S}.{now_ns % 1_000_000_000:09d}".encode()
        return line[: head.start(1)] + local + line[head.end(1) :] + b"\n"

    def write(self, kind: str, data: bytes) -> None:
        """Append to the hour's file of `kind`, in one write."""
        os.write(self._fd(kind), data)

    def truncate(self) -> None:
        """Cut the current files to nothing."""
        for _, fd in self._files.values():
            os.ftruncate(fd, 0)

    def _fd(self, kind: str) -> int:
        at = datetime.now(UTC) + timedelta(hours=self.hours_ahead)
        folder = self._directory / f"{kind}_by_block" / "hourly" / f"{at:%Y%m%d}"
        path = folder / str(at.hour)
        known = self._files.get(kind)
        if known is not None and known[0] == path:
            return known[1]
        if known is not None:
            os.close(known[1])
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # Half a line of a killed run is ended by the next one, as a node does.
        size_bytes = os.fstat(fd).st_size
        if size_bytes and os.pread(fd, 1, size_bytes - 1) != b"\n":
            os.write(fd, b"\n")
        self._files[kind] = path, fd
        return fd


class Feeder:
    """Blocks in, faults applied, lines out."""

    def __init__(self, *, tail: PristineTail, disk: NodeDisk) -> None:
        self._tail, self._disk = tail, disk
        self._waiting: deque[Block] = deque()
        self._delay_s, self._lag, self._torn_s = 0.0, 0, 0.0
        self.is_stalled = False
        self._skip = 0
        self._leave_half = False
        self._drops: list[Drop] = []
        self._lies: list[tuple[int, str]] = []
        self.written = disk.last_height()
        self.seen = self.written
        self.dropped = 0
        self.lied: list[dict[str, Any]] = []

    @property
    def state(self) -> dict[str, Any]:
        """What a test asks: heights seen and written, what was done to them."""
        return {
            "seen": self.seen,
            "written": self.written,
            "dropped": self.dropped,
            "lied": self.lied,
            "stalled": self.is_stalled,
        }

    def control(self, order: dict[str, Any]) -> None:
        """Take one order. Raises KeyError or ValueError for one that cannot be read."""
        match order["do"]:
            case "delay":
                self._delay_s = float(order["ms"]) / 1_000
            case "lag":
                self._lag = int(order["blocks"])
            case "stall":
                self.is_stalled = True
            case "resume":
                self.is_stalled = False
                if order.get("lose"):
                    self._waiting.clear()
            case "drop":
                kinds = frozenset(order.get("kinds") or KINDS)
                self._drops.append(Drop(int(order["first"]), int(order["last"]), kinds))
            case "lie":
                self._lies.append((int(order["height"]), str(order["coin"])))
            case "torn":
                self._torn_s = float(order["ms"]) / 1_000
            case "rotate":
                self._disk.hours_ahead += 1
            case "truncate":
                self._disk.truncate()
            case "restart_gap":
                self._skip, self._leave_half = int(order["blocks"]), True
            case "heal":
                self._delay_s, self._lag, self._torn_s = 0.0, 0, 0.0
                self.is_stalled = False
            case "state":
                pass
            case other:
                raise ValueError(f"unknown order {other!r}")

    async def run(self) -> None:
        """Copy until cancelled."""
        while True:
            now_s = time.monotonic()
            for block in self._tail.read(now_s=now_s):
                self._waiting.append(block)
                self.seen = block.height
            while self._is_due(now_s):
                await self._write(self._waiting.popleft())
            await asyncio.sleep(POLL_S)

    def _is_due(self, now_s: float) -> bool:
        if self.is_stalled or len(self._waiting) <= self._lag:
            return False
        return now_s - self._waiting[0].at_s >= self._delay_s

    async def _write(self, block: Block) -> None:
        if self._leave_half:
            self._leave_half = False
            self._disk.write(FILLS, self._disk.stamp(block.lines[FILLS])[:60])
        if self._skip:
            self._skip -= 1
            self.dropped += len(KINDS)
            if not self._skip:
                self._disk.write(FILLS, b"\n")
            return
        for kind, line in block.lines.items():
            if any(d.first <= block.height <= d.last and kind in d.kinds for d in self._drops):
                self.dropped += 1
                continue
            if kind == FILLS:
                line = self._lie(block.height, line)
            await self._put(kind, self._disk.stamp(line))
        self.written = block.height

    async def _put(self, kind: str, data: bytes) -> None:
        if not self._torn_s:
            self._disk.write(kind, data)
            return
        half = len(data) // 2
        self._disk.write(kind, data[:half])
        await asyncio.sleep(self._torn_s)
        self._disk.write(kind, data[half:])

    def _lie(self, height: int, line: bytes) -> bytes:
        """The fills line, with a wrong price in both sides of a trade if a lie is due."""
        for order in self._lies:
            wanted, coin = order
            if height < wanted:
                continue
            block = json.loads(line)
            tid = next((f["tid"] for _, f in block["events"] if f["coin"] == coin), None)
            if tid is None:
                continue
            self._lies.remove(order)
            for _, fill in block["events"]:
                if fill["tid"] == tid:
                    was, fill["px"] = fill["px"], f"{float(fill['px']) * 1.5:.1f}"
            self.lied.append({"height": height, "coin": coin, "tid": tid, "was": was})
            return json.dumps(block, separators=(",", ":")).encode()
        return line


def application(feeder: Feeder, *, simulator: str) -> web.Application:
    """`/info`, answered by the simulator whose files these are, and `/control`."""
    session: list[aiohttp.ClientSession] = []

    async def info(request: web.Request) -> web.Response:
        if feeder.is_stalled:
            # A node that stands still does not write snapshots either.
            return web.Response(status=503, text="stalled")
        timeout = aiohttp.ClientTimeout(total=INFO_DEADLINE_S)
        body = await request.read()
        headers = {"content-type": "application/json"}
        async with session[0].post(
            f"{simulator}/info", data=body, headers=headers, timeout=timeout
        ) as answer:
            data = await answer.read()
            return web.Response(status=answer.status, body=data, content_type=answer.content_type)

    async def control(request: web.Request) -> web.Response:
        try:
            feeder.control(await request.json())
        except (KeyError, ValueError) as error:
            return web.json_response({"error": repr(error)}, status=400)
        return web.json_response(feeder.state)

    async def sessions(_app: web.Application) -> Any:
        async with aiohttp.ClientSession() as opened:
            session.append(opened)
            yield

    app = web.Application()
    app.router.add_post("/info", info)
    app.router.add_post("/control", control)
    app.cleanup_ctx.append(sessions)
    return app


async def serve(options: argparse.Namespace) -> None:
    """Feed and answer until SIGTERM."""
    disk = NodeDisk(options.dir)
    after = disk.last_height()
    tail = PristineTail(options.pristine, after=after)
    if after and options.on_restart == "gap":
        # What the chain made while this node was away is not on its disk, ever.
        for _lost in tail.read(now_s=time.monotonic()):
            pass
    feeder = Feeder(tail=tail, disk=disk)
    runner = web.AppRunner(application(feeder, simulator=options.simulator))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    feeding = asyncio.ensure_future(feeder.run())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({feeding, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (feeding, stopping):
        task.cancel()
    ended = await asyncio.gather(feeding, stopping, return_exceptions=True)
    await runner.cleanup()
    for result in ended:
        if isinstance(result, Exception):
            raise result


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="one node of a pair, with faults")
    parser.add_argument("--pristine", type=Path, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--simulator", required=True, help="base URL of the pristine simulator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--on-restart", choices=("catch-up", "gap"), default="catch-up")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
