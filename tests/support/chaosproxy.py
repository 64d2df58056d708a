"""A TCP proxy that misbehaves on order, between two parts that do not know of it.

`up` is from the client to the server, `down` the other way. Orders apply to connections there are
and to those that come.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

DEADLINE_S = 10.0
CHUNK_BYTES = 64 * 1024
#: How often a slow link takes something.
TRICKLE_S = 0.1
#: Closing with this option set sends RST instead of FIN.
_LINGER_ZERO = struct.pack("ii", 1, 0)


class End(StrEnum):
    """How a connection is ended."""

    RESET = "reset"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Rules:
    """What happens to bytes. `bytes_per_s` 0 is no limit; `cut_after` counts `down` bytes of each
    connection that begins after the rule was set, and ends it in the middle of whatever that is."""

    latency_ms: float = 0.0
    bytes_per_s: float = 0.0
    is_blackhole: bool = False  # accepted bytes go nowhere, both ways; connections stay
    is_half_open: bool = False  # accepts, and never answers nor connects on
    refuses: bool = False  # ends every new connection at once
    cut_after: int | None = None
    cut_how: End = End.RESET


@dataclass(slots=True, eq=False)
class _Link:
    """One connection through us."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    down_bytes: int = 0
    cut_after: int | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self, how: End) -> None:
        for writer in (self.client, self.server):
            if writer is None:
                continue
            if how is End.RESET:
                with contextlib.suppress(OSError):
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                writer.transport.abort()
            else:
                writer.close()
        for task in self.tasks:
            task.cancel()


class ChaosProxy:
    """Listens on a free port of loopback and passes on to `host:target`. A context manager.

    Runs in a thread of its own; every method may be called from the test's.
    """

    def __init__(self, target: int, *, host: str = "127.0.0.1") -> None:
        self._host, self._target = host, target
        self._rules = Rules()
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos", daemon=True)
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self.port = 0
        self.accepted = 0
        self.ended = 0

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    # --- orders -----------------------------------------------------------------------------------

    def set(self, **rules: Any) -> None:
        """Change some rules; the others stay as they are."""
        self._call(self._set, replace(self._rules, **rules))

    def heal(self) -> None:
        """Pass everything on, at once. What was swallowed is gone."""
        self._call(self._set, Rules())

    def cut(self, how: End = End.RESET) -> int:
        """End every connection now; returns how many there were."""
        return int(self._call(self._cut, how))

    @property
    def open(self) -> int:
        """Connections there are now."""
        return len(self._links)

    # --- in the loop ------------------------------------------------------------------------------

    def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        async def run() -> Any:
            done = work(*arguments)
            return await done if asyncio.iscoroutine(done) else done

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for link in self._links for task in link.tasks]
        self._cut(End.RESET)
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE_S)
        await self._server.wait_closed()

    def _set(self, rules: Rules) -> None:
        self._rules = rules
        # Whoever waits under the old rules looks again.
        self._changed.set()
        self._changed = asyncio.Event()

    def _cut(self, how: End) -> int:
        links = list(self._links)
        for link in links:
            self._end(link, how)
        return len(links)

    def _end(self, link: _Link, how: End) -> None:
        if link in self._links:
            self._links.remove(link)
            self.ended += 1
            link.end(how)

    def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(client, cut_after=self._rules.cut_after)
        self._links.add(link)
        if self._rules.refuses:
            self._end(link, End.RESET)
        else:
            # Our own task: asyncio's would complain of being cancelled.
            link.tasks.append(asyncio.ensure_future(self._carry(reader, client, link=link)))

    async def _carry(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, *, link: _Link
    ) -> None:
        try:
            while self._rules.is_half_open:
                await self._changed.wait()
            server_reader, link.server = await asyncio.open_connection(self._host, self._target)
            down = asyncio.ensure_future(self._pump(server_reader, client, link=link, is_down=True))
            link.tasks.append(down)
            await self._pump(reader, link.server, link=link, is_down=False)
            await down
        except (OSError, asyncio.CancelledError):
            pass  # an end like any other
        finally:
            self._end(link, End.CLOSE)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        link: _Link,
        is_down: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                rules = self._rules
                if rules.latency_ms:
                    await asyncio.sleep(rules.latency_ms / 1_000)
                # Little by little, so that the peer sees a slow link and not a dead one.
                while data and (bytes_per_s := self._rules.bytes_per_s):
                    piece_bytes = max(1, int(bytes_per_s * TRICKLE_S))
                    writer.write(data[:piece_bytes])
                    data = data[piece_bytes:]
                    await asyncio.sleep(TRICKLE_S)
                if self._rules.is_blackhole:
                    continue
                if is_down and link.cut_after is not None:
                    left = link.cut_after - link.down_bytes
                    if len(data) >= left:
                        writer.write(data[:left])
                        # RST throws away what the kernel still holds; the peer must get it first.
                        await _flushed(writer)
                        self._end(link, self._rules.cut_how)
                        return
                    link.down_bytes += len(data)
                writer.write(data)
                await writer.drain()
        if link in self._links:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()
