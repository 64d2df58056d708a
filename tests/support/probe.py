"""A customer who writes down everything that comes, with the time it came.

Probes run in one thread of their own (`Probes`), so that a test can wait for what they have seen
while they go on reading. Nothing here asks what is right: that is the oracle's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException

from streaming.core.cursor import decode
from streaming.core.envelope import LAST_INDEX
from tests.support.front import trusting
from tests.support.oracle import Got, Marker, Record
from tests.support.pristine import digest

DEADLINE_S = 20.0
POLL_S = 0.01
RECONNECT_S = 0.05
#: A slow customer reads a frame, then rests this long.
SLOW_S = 0.05
#: A chatty one says so much, so often: below what is a flood, and each is quoted back to it.
CHAT = "x" * 60_000
CHAT_S = 0.02
#: Answers that belong to no subscription.
CONTROL = frozenset({"subscriptionResponse", "pong", "error", "post"})


class Mode(StrEnum):
    """How a probe reads."""

    NORMAL = "normal"
    SLOW = "slow"
    SILENT = "silent"  # subscribes, and does not read again until woken
    CHATTY = "chatty"  # the same, but goes on sending
    RESUMER = "resumer"  # comes back after every cut, from its last cursor where it has one


class Frame(NamedTuple):
    """One frame as it arrived. `at_ns` is monotonic; what only the relay dialect has is None
    elsewhere."""

    at_ns: int
    channel: str
    subject: str
    sha: str
    id: int | None
    seq: int | None
    epoch: str | None
    cursor: str | None
    is_replay: bool
    connection: int


@dataclass(eq=False)
class Probe:
    """What one customer got. Lists only grow; the reading thread alone writes them."""

    url: str
    subscriptions: Sequence[dict[str, Any]]
    mode: Mode = Mode.NORMAL
    #: Further fields of each subscribe request in the relay dialect.
    options: dict[str, Any] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    #: Trades by coin, and the gaps declared in them, in the order they came.
    trades: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    #: `data` of the relay channel's frames, with `at_ns` (monotonic).
    events: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    #: Close code and reason of each connection that ended.
    closes: list[tuple[int | None, str]] = field(default_factory=list)
    closed_s: float = 0.0  # when the last of them did, since 1970
    connections: int = 0
    #: The connection there is; for `Probes.cut`.
    socket: ClientConnection | None = None
    is_awake: bool = False
    cursors: dict[int, str] = field(default_factory=dict)
    #: Highest trade time in ms, by coin: what a test waits for.
    newest_ms: dict[str, int] = field(default_factory=dict)
    is_relay_dialect: bool = field(init=False)
    _opened: set[tuple[int, str]] = field(default_factory=set)
    #: Trades had before a subscription was begun anew, by coin.
    _had: dict[str, set[str]] = field(default_factory=dict)
    _since: dict[str, int] = field(default_factory=dict)  # time of the first trade of each coin
    #: Subscriptions to be made once more: from the oldest place there is, or without a cursor.
    _anew: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.is_relay_dialect = "relay=1" in self.url

    @property
    def coins(self) -> list[str]:
        """The coins whose trades it follows."""
        return [coin for subscription in self.subscriptions for coin in _coins_of(subscription)]

    @property
    def keys(self) -> list[str]:
        """The trades that came, as `coin/tid`, in order: for a quick look."""
        return [
            f"{coin}/{r.key}" for coin, got in self.trades.items() for r in got if type(r) is Got
        ]

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        """The relay channel's frames of one type."""
        return [event for event in self.events if event.get("type") == kind]

    def write(self, path: Path) -> None:
        """One JSON line a frame."""
        with path.open("w") as file:
            for frame in list(self.frames):
                file.write(json.dumps(frame._asdict()) + "\n")

    # --- reading ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read until cancelled, or until the connection ends for one who does not come back."""
        while True:
            try:
                async with connect(
                    self.url,
                    compression=None,
                    max_size=None,
                    max_queue=1024 if self.mode in (Mode.NORMAL, Mode.RESUMER) else 1,
                    ssl=trusting() if self.url.startswith("wss:") else None,
                    open_timeout=DEADLINE_S,
                    ping_interval=None,
                    close_timeout=0.5,
                ) as socket:
                    self.connections += 1
                    self.socket = socket
                    await self._follow(socket)
                    self.closes.append((socket.close_code, socket.close_reason or ""))
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else None
                self.closes.append((code, str(closed)))
            except (OSError, InvalidHandshake, WebSocketException, TimeoutError) as error:
                self.closes.append((None, f"{type(error).__name__}: {error}"))
            self.closed_s = time.time()
            if self.mode is not Mode.RESUMER:
                return
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self, socket: ClientConnection) -> None:
        for number in range(1, len(self.subscriptions) + 1):
            await self._subscribe(socket, number)
        while self.mode in (Mode.SILENT, Mode.CHATTY) and not self.is_awake:
            if self.mode is Mode.CHATTY:
                await socket.send(CHAT)
            await asyncio.sleep(CHAT_S)
        async for text in socket:
            self._take(text if isinstance(text, str) else text.decode())
            while self._anew:
                await asyncio.sleep(RECONNECT_S)  # a log that cannot be asked is asked again
                await self._subscribe(socket, self._anew.pop())
            if self.mode is Mode.SLOW:
                await asyncio.sleep(SLOW_S)

    async def _subscribe(self, socket: ClientConnection, number: int) -> None:
        subscription = self.subscriptions[number - 1]
        request: dict[str, Any] = {"method": "subscribe", "subscription": subscription}
        if self.is_relay_dialect:
            request["id"] = number
            request |= self.options
            if number in self.cursors:
                request["from"] = self.cursors[number]
        if "from" not in request:
            for coin in _coins_of(subscription):
                self._had[coin] = {r.key for r in self.trades[coin] if type(r) is Got}
                self._opened.discard((self.connections, coin))
        await socket.send(json.dumps(request))

    def _take(self, text: str) -> None:
        at_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        frame = json.loads(text)
        channel, data = frame["channel"], frame.get("data")
        if channel == "error":
            self.errors.append(str(data))
        if channel in CONTROL:
            return
        if channel == "relay":
            self._note_event(data, at_ns=at_ns, wall_ns=wall_ns)
            return
        is_replay = bool(frame.get("replay"))
        if channel == "trades":
            # What opens a subscription happened before it: it says nothing of lateness.
            opening = (self.connections, data[0]["coin"] if data else "")
            seen_ns = wall_ns if opening in self._opened else 0
            self._opened.add(opening)
            for trade in data:
                got = Got(str(trade["tid"]), digest(trade), seen_ns, is_replay)
                coin = trade["coin"]
                # Who begins anew gets the last trades again, and knows which they had; what is
                # older than the first of those was never asked for.
                had = self._had.get(coin, ())
                is_opening = not seen_ns and not is_replay
                if is_opening and had and (got.key in had or trade["time"] < self._since[coin]):
                    continue
                self._since.setdefault(coin, trade["time"])
                self.trades[coin].append(got)
                self.newest_ms[coin] = max(self.newest_ms.get(coin, 0), trade["time"])
        identity, cursor = frame.get("id"), frame.get("cursor")
        if identity is not None and cursor is not None:
            self.cursors[identity] = cursor
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]
        self.frames.append(
            Frame(
                at_ns,
                channel,
                _subject(data),
                sha,
                identity,
                frame.get("seq"),
                frame.get("epoch"),
                cursor,
                is_replay,
                self.connections,
            )
        )

    def _note_event(self, data: dict[str, Any], *, at_ns: int, wall_ns: int) -> None:
        self.events.append({**data, "at_ns": at_ns, "connection": self.connections})
        match data.get("type"):
            case "gap":
                first, last = heights(data)
                if data["to"] is not None:
                    self.cursors[data["id"]] = data["to"]
            case "resumeFailed":
                identity, oldest = data["id"], data["oldest"]
                self._anew.append(identity)
                begin, last = self.cursors.pop(identity), None
                first = place(begin)[0]
                if oldest is not None:
                    self.cursors[identity] = oldest
                    if place(oldest) <= place(begin):
                        return  # nothing is lost: the log could not be asked
                    first, last = heights({"from": begin, "to": oldest})
            case "slow":
                self.cursors[data["id"]] = data["cursor"]
                return
            case "error":
                self.errors.append(str(data))
                return
            case _:
                return
        coins = [data["coin"]] if "coin" in data else self._coins(data.get("id"))
        for coin in coins:
            self.trades[coin].append(Marker(first, last, wall_ns))

    def _coins(self, identity: int | None) -> list[str]:
        return [] if identity is None else _coins_of(self.subscriptions[identity - 1])


def heights(gap: dict[str, Any]) -> tuple[int, int | None]:
    """First and last height that a `gap` frame speaks of, both included; None: up to the next
    frame."""
    begin_height, begin_index = place(gap["from"])
    end = gap["to"]
    return begin_height + (begin_index >= LAST_INDEX), None if end is None else place(end)[0]


def place(cursor: str) -> tuple[int, int]:
    """`(height, index)` of a cursor. Raises BadCursor."""
    position = decode(cursor).position
    return position.height, position.index


def _coins_of(subscription: dict[str, Any]) -> list[str]:
    if subscription["type"] != "trades":
        return []
    coins: list[str] = subscription.get("coins") or [subscription["coin"]]
    return coins


def _subject(data: Any) -> str:
    row = data[0] if isinstance(data, list) and data else data
    if isinstance(row, dict):
        return str(row.get("coin") or row.get("user") or row.get("s") or "")
    return ""


class Probes:
    """Any number of probes in one thread. A context manager: leaving it disconnects them all."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="probes", daemon=True)
        self._running: dict[int, Future[None]] = {}
        self.all: list[Probe] = []

    def __enter__(self) -> Probes:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def start(
        self,
        url: str,
        *subscriptions: dict[str, Any],
        mode: Mode = Mode.NORMAL,
        options: dict[str, Any] | None = None,
    ) -> Probe:
        """Connect one more."""
        probe = Probe(url, subscriptions, mode, options or {})
        self.all.append(probe)
        self._running[id(probe)] = self._submit(probe.run())
        return probe

    def stop(self, probe: Probe) -> None:
        """Disconnect one; what it got stays."""
        running = self._running.pop(id(probe), None)
        if running is not None:
            self._end([running])

    def cut(self, *probes: Probe) -> None:
        """End the connections of these, all at once and without a word."""

        async def abort() -> None:
            for probe in probes:
                if probe.socket is not None:
                    probe.socket.transport.abort()

        self._submit(abort()).result(DEADLINE_S)

    def close(self) -> None:
        """Disconnect all, and forget them."""
        self._end(list(self._running.values()))
        self._running.clear()
        self.all.clear()

    def _end(self, running: list[Future[None]]) -> None:
        for future in running:
            future.cancel()
        # The cancelled tasks close their sockets in the loop; that must be over when we return.
        self._submit(_settle()).result(DEADLINE_S)

    def _submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait_for(
        self, is_true: Callable[[], bool], *, what: str, deadline_s: float = DEADLINE_S
    ) -> float:
        """Seconds until `is_true`. Raises TimeoutError saying `what` was waited for."""
        began_s = time.monotonic()
        while not is_true():
            if time.monotonic() - began_s > deadline_s:
                raise TimeoutError(f"{what}: not within {deadline_s:g} s")
            time.sleep(POLL_S)
        return time.monotonic() - began_s


async def _settle() -> None:
    me = asyncio.current_task()
    cancelled = [task for task in asyncio.all_tasks() if task is not me and task.cancelling()]
    if cancelled:
        await asyncio.wait(cancelled, timeout=DEADLINE_S)
