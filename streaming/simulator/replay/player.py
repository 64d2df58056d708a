"""Plays a recording: frames to whoever follows them, lines into the node directory, with their
timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterator
from enum import StrEnum
from pathlib import Path

from streaming.simulator.files.writer import HourFile, Mode
from streaming.simulator.replay.desk import RecordedMarket
from streaming.simulator.replay.sources import (
    BLOCK_NUMBER,
    NodeFile,
    RecordedFrame,
    RecordedLine,
    Recording,
    UnusableRecording,
    node_coins,
    node_lines,
    open_plain,
    ws_frames,
)
from streaming.simulator.servers.app import Endpoint
from streaming.simulator.servers.dialect import Subscription
from streaming.simulator.servers.metrics import Metrics
from streaming.simulator.servers.socket import SocketRules

# Clients subscribe to several coins one after the other: the start waits for a pause this long, but
# not for ever, since some poll /info.
SETTLE_S = 0.25
MAX_SETTLE_S = 2.0
ITEMS_A_TURN = 50  # at full speed, how many items go out before the loop may breathe

Item = RecordedFrame | RecordedLine


class Start(StrEnum):
    """When a replay begins."""

    ON_SUBSCRIBE = "on-subscribe"
    AT_ONCE = "at-once"


class Player:
    """Serves one recording, once.

    `speed` 1 keeps the recorded gaps, 2 halves them, 0 goes as fast as clients read. WebSocket
    frames and each mode of node files start together, whatever their recorded dates. With
    `Start.ON_SUBSCRIBE` the beginning waits for the first subscription to a recorded coin, or, when
    there are node files, the first /info request.

    Raises UnusableRecording when there are node files but no directory, or when the directory
    already holds lines of the recorded hours: appending them again would write every height twice.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        dir: Path | None = None,
        mode: Mode = Mode.BY_BLOCK,
        speed: float = 1.0,
        start: Start = Start.ON_SUBSCRIBE,
        rules: SocketRules | None = None,
    ) -> None:
        self._ws_files = recording.ws_files
        self._node_files = chosen_node_files(recording.node_files, mode)
        if self._node_files and dir is None:
            raise UnusableRecording("recorded node files need a directory to be written to")
        self._files = {
            (source.stream, source.suffix): HourFile(
                dir, stream=source.stream, suffix=source.suffix
            )
            for source in self._node_files
            if dir is not None
        }
        if dir is not None:
            refuse_written(dir, self._node_files)
            dir.mkdir(parents=True, exist_ok=True)
        snapshot = _read(recording.snapshot) if recording.snapshot else None
        self.market = RecordedMarket(self._recorded_coins(), snapshot=snapshot)
        self._speed = speed
        self._start = start
        self._asked = asyncio.Event()
        self.metrics = Metrics()
        self.endpoint = Endpoint(
            self.market,
            self.market,
            state=self.state,
            registry=self.metrics.registry,
            rules=rules,
            on_info=self._on_info,
            on_subscribe=self._on_subscribe,
        )
        self.finished = asyncio.Event()
        self.has_started = False
        self.served = 0
        self.height = 0

    def _recorded_coins(self) -> set[str]:
        coins = node_coins(self._node_files)
        for path in self._ws_files:
            for recorded in ws_frames(path):
                parts = recorded.route.split(" ")
                if len(parts) > 1 and recorded.channel not in ("allMids", "userFills"):
                    coins.add(parts[1])
        return coins

    def state(self) -> dict[str, object]:
        """What a test oracle asks: how far the replay is."""
        return {
            "height": self.height,
            "replay": {
                "served": self.served,
                "started": self.has_started,
                "finished": self.finished.is_set(),
            },
        }

    async def run(self) -> None:
        """Wait for the start, play everything, and return; the endpoint keeps answering with the
        last state.
        """
        if self._start is Start.ON_SUBSCRIBE:
            await self._someone_asked()
        self.has_started = True
        await self._play()
        self.finished.set()

    async def _someone_asked(self) -> None:
        await self._asked.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_SETTLE_S):
                while await self._asked_again():
                    pass

    async def _asked_again(self) -> bool:
        self._asked.clear()
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._asked.wait()
        except TimeoutError:
            return False
        return True

    async def _play(self) -> None:
        began_s = time.monotonic()
        try:
            for offset_ns, item in self._items():
                if self._speed:
                    wait_s = began_s + offset_ns / 1e9 / self._speed - time.monotonic()
                    if wait_s > 0:
                        await asyncio.sleep(wait_s)
                elif isinstance(item, RecordedFrame):
                    await self.endpoint.socket.room(item.route)
                self._deliver(item)
                if self.served % ITEMS_A_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            for file in self._files.values():
                file.close()

    def _items(self) -> Iterator[tuple[int, Item]]:
        groups: list[list[Iterator[Item]]] = [[ws_frames(path) for path in self._ws_files]]
        for suffix in ("by_block", "streaming"):
            groups.append([node_lines(file) for file in self._node_files if file.suffix == suffix])
        return heapq.merge(*(_from_zero(group) for group in groups), key=_offset)

    def _deliver(self, item: Item) -> None:
        if isinstance(item, RecordedFrame):
            self.market.record(item)
            self.endpoint.socket.publish(item.route, item.payload, channel=item.channel)
        else:
            self._files[item.file.stream, item.file.suffix].write(
                item.line + b"\n", local_ns=item.at_ns
            )
            number = BLOCK_NUMBER.search(item.line, 0, 200)
            self.height = max(self.height, int(number[1]) if number else 0)
        self.served += 1
        self.metrics.replayed.inc()

    def _on_subscribe(self, subscription: Subscription) -> None:
        if subscription.get("coin") in self.market.coins or subscription["type"] == "allMids":
            self._asked.set()

    def _on_info(self, kind: str) -> None:
        if self._node_files:
            self._asked.set()

    @contextlib.asynccontextmanager
    async def listen(
        self, *, host: str = "127.0.0.1", port: int = 0, metrics_port: int | None = None
    ) -> AsyncIterator[Player]:
        """Serve while the context lasts, not playing yet. Raises OSError when a port is taken."""
        async with self.endpoint.listen(host=host, port=port, metrics_port=metrics_port):
            yield self


def chosen_node_files(files: list[NodeFile], mode: Mode) -> list[NodeFile]:
    """The recorded files of the wanted mode, or all of them when it was not recorded."""
    wanted = [file for file in files if file.suffix in mode.suffixes]
    return wanted or files


def refuse_written(directory: Path, files: list[NodeFile]) -> None:
    """Raise UnusableRecording when the directory already holds lines of the kinds to be written."""
    for file in files:
        hourly = directory / f"{file.stream}_{file.suffix}" / "hourly"
        if any(path.is_file() and path.stat().st_size for path in hourly.glob("*/*")):
            raise UnusableRecording(
                f"{hourly} already holds lines; give the replay an empty directory"
            )


def _from_zero(sources: list[Iterator[Item]]) -> Iterator[tuple[int, Item]]:
    """The items of one group merged by time, with the time since the group's first."""
    began_ns: int | None = None
    at: Callable[[Item], int] = lambda item: item.at_ns  # noqa: E731 - typed, for merge
    for item in heapq.merge(*sources, key=at):
        if began_ns is None:
            began_ns = item.at_ns
        yield item.at_ns - began_ns, item


def _offset(timed: tuple[int, Item]) -> int:
    return timed[0]


def _read(path: Path) -> bytes:
    with open_plain(path) as file:
        return file.read()
