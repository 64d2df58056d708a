"""Which of two endpoints is first, and what one of them misses, seen from this host.

    python -m hlrelay.race --a wss://HOST/KEY/ws --b wss://OTHER/ws --coin BTC --seconds 30

Speaks the exchange's own WebSocket dialect, so any two endpoints that do can race. The rules are in
docs/race.md. Needs `websockets`; this file runs by itself, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CHANNELS = ("trades", "bbo", "l2Book")
#: Levels of a side that are compared; endpoints give different depths.
LEVELS = 5
PING_EVERY_S = 30.0
OPEN_WITHIN_S = 15.0
#: Edges of the histogram, in ms; a difference is in the first bin whose edge it does not pass.
EDGES_MS = (-1000, -300, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000, math.inf)
BAR_CHARS = 40


# --- the rules: pure ------------------------------------------------------------------------------


class Event(NamedTuple):
    """One thing that happened on the chain, the same at every endpoint. `time_ms` is the chain's
    own time, `content` what an endpoint says of it."""

    key: Hashable
    time_ms: int
    content: Any


def events_of(frame: Any, *, channel: str, coin: str) -> list[Event]:
    """What a frame tells of a coin; nothing for acks, pongs and other channels."""
    if not isinstance(frame, dict) or frame.get("channel") != channel:
        return []
    data = frame.get("data")
    if channel == "trades":
        trades = [each for each in data or () if each.get("coin") == coin]
        return [
            Event((t["time"], t["tid"]), t["time"], (t["side"], t["px"], t["sz"])) for t in trades
        ]
    if not isinstance(data, dict) or data.get("coin") != coin:
        return []
    sides = data["bbo"] if channel == "bbo" else [side[:LEVELS] for side in data["levels"]]
    return [Event(data["time"], data["time"], sides)]


@dataclass(frozen=True)
class Side:
    """What one endpoint did within the window. Leads are in ms, of the events at which it was
    first."""

    events: int
    first: int
    missing: int
    twice: int
    lead_p50_ms: float | None
    lead_p99_ms: float | None


@dataclass(frozen=True)
class Result:
    """A race. Differences are A's time of arrival less B's, in ms: below 0, A was first."""

    compared: int
    seconds: float
    a: Side
    b: Side
    differs: int
    p50_ms: float | None
    p99_ms: float | None
    p01_ms: float | None
    histogram: list[int] = field(default_factory=list)


class Race:
    """Arrivals at two endpoints, by one clock."""

    def __init__(self) -> None:
        self._heard: tuple[dict[Hashable, tuple[int, Event]], ...] = ({}, {})
        self._twice: list[list[Event]] = [[], []]
        #: Chain time of each side's first frame, which may be a snapshot of the past.
        self._begun_ms: list[int | None] = [None, None]

    def frame(self, side: int, events: Iterable[Event], *, at_ns: int) -> None:
        """Side 0 (A) or 1 (B) has got a frame at `at_ns` of one monotonic clock."""
        events = list(events)
        if not events:
            return
        if self._begun_ms[side] is None:
            self._begun_ms[side] = max(event.time_ms for event in events)
        for event in events:
            if event.key in self._heard[side]:
                self._twice[side].append(event)
            else:
                self._heard[side][event.key] = (at_ns, event)

    def has_begun(self, side: int) -> bool:
        """Whether a side has told anything yet."""
        return self._begun_ms[side] is not None

    def window_ms(self) -> tuple[int, int] | None:
        """Chain times, both exclusive, between which both endpoints could have told everything:
        after both had begun, and before the newest that both have told."""
        if None in self._begun_ms or not all(self._heard):
            return None
        begun = max(each for each in self._begun_ms if each is not None)
        newest = min(max(e.time_ms for _, e in heard.values()) for heard in self._heard)
        return (begun, newest) if newest > begun else None

    def result(self) -> Result:
        """The outcome so far."""
        window = self.window_ms()
        if window is None:
            nothing = Side(0, 0, 0, 0, None, None)
            return Result(0, 0.0, nothing, nothing, 0, None, None, None, [0] * len(EDGES_MS))
        low, high = window
        a, b = (
            {key: got for key, got in heard.items() if low < got[1].time_ms < high}
            for heard in self._heard
        )
        both = a.keys() & b.keys()
        differences = sorted((a[key][0] - b[key][0]) / 1e6 for key in both)
        leads_a = sorted(-each for each in differences if each < 0)
        leads_b = sorted(each for each in differences if each > 0)
        twice = [sum(low < each.time_ms < high for each in side) for side in self._twice]
        return Result(
            compared=len(both),
            seconds=(high - low) / 1000,
            a=_side(len(a), leads_a, missing=len(b.keys() - a.keys()), twice=twice[0]),
            b=_side(len(b), leads_b, missing=len(a.keys() - b.keys()), twice=twice[1]),
            differs=sum(a[key][1].content != b[key][1].content for key in both),
            p50_ms=percentile(differences, 50),
            p99_ms=percentile(differences, 99),
            p01_ms=percentile(differences, 1),
            histogram=histogram(differences),
        )


def _side(events: int, leads: Sequence[float], *, missing: int, twice: int) -> Side:
    return Side(events, len(leads), missing, twice, percentile(leads, 50), percentile(leads, 99))


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The value that so many percent do not exceed (nearest rank); None of nothing."""
    if not ordered:
        return None
    rank = math.ceil(percent / 100 * len(ordered))
    return round(ordered[max(0, rank - 1)], 3)


def histogram(values: Iterable[float]) -> list[int]:
    """How many values are in each bin of EDGES_MS."""
    counts = [0] * len(EDGES_MS)
    for value in values:
        counts[next(n for n, edge in enumerate(EDGES_MS) if value <= edge)] += 1
    return counts


# --- the sockets ----------------------------------------------------------------------------------


class Failed(Exception):
    """An endpoint that cannot race, in one line."""


def shown(url: str) -> str:
    """An endpoint without what may be a key in its address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


async def run(a: str, b: str, *, channel: str, coin: str, seconds: float) -> Race:
    """Race two WebSocket addresses; an endpoint that ends early ends the race. Raises Failed."""
    race = Race()
    both_ready = asyncio.Barrier(2)
    runners = [
        asyncio.ensure_future(_follow(race, n, url, channel, coin, seconds, both_ready))
        for n, url in enumerate((a, b))
    ]
    try:
        done, _ = await asyncio.wait(runners, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in runners:
            each.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
    return race


async def _follow(
    race: Race, side: int, url: str, channel: str, coin: str, seconds: float, ready: asyncio.Barrier
) -> None:
    import websockets
    from websockets.asyncio.client import connect

    subscription = {"type": channel, "coin": coin}
    subscribe = json.dumps({"method": "subscribe", "subscription": subscription})
    name = "AB"[side]
    try:
        async with connect(url, open_timeout=OPEN_WITHIN_S, max_size=None) as socket:
            await ready.wait()
            await socket.send(subscribe)
            pinger = asyncio.ensure_future(_ping(socket))
            try:
                async with asyncio.timeout(seconds):
                    async for text in socket:
                        at_ns = time.perf_counter_ns()
                        frame = _read(text)
                        if isinstance(frame, dict) and frame.get("channel") == "error":
                            raise Failed(f"{name} ({shown(url)}) says: {str(frame['data'])[:200]}")
                        race.frame(side, events_of(frame, channel=channel, coin=coin), at_ns=at_ns)
                raise Failed(f"{name} ({shown(url)}) ended the connection")
            finally:
                pinger.cancel()
    except TimeoutError:
        if not race.has_begun(side):
            said = f"said nothing of {coin} within {seconds:g} s"
            raise Failed(f"{name} ({shown(url)}) {said}") from None
    except websockets.InvalidStatus as error:
        status = error.response.status_code
        raise Failed(f"{name} ({shown(url)}) refused the connection: HTTP {status}") from None
    except (OSError, websockets.WebSocketException) as error:
        raise Failed(f"{name} ({shown(url)}) failed: {type(error).__name__}") from None


async def _ping(socket: Any) -> None:
    while True:
        await asyncio.sleep(PING_EVERY_S)
        await socket.send('{"method":"ping"}')


def _read(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # a greeting


# --- what is printed ------------------------------------------------------------------------------


def table(result: Result) -> str:
    """The outcome for a person."""
    rows = [
        ("", "A", "B"),
        ("events", f"{result.a.events:,}", f"{result.b.events:,}"),
        ("first", f"{result.a.first:,}", f"{result.b.first:,}"),
        ("missing", f"{result.a.missing:,}", f"{result.b.missing:,}"),
        ("twice", f"{result.a.twice:,}", f"{result.b.twice:,}"),
        ("lead p50, ms", _ms(result.a.lead_p50_ms), _ms(result.b.lead_p50_ms)),
        ("lead p99, ms", _ms(result.a.lead_p99_ms), _ms(result.b.lead_p99_ms)),
    ]
    lines = [f"{name:<14}{left:>12}{right:>12}" for name, left, right in rows]
    lines += [
        "",
        f"{result.compared:,} events at both in {result.seconds:.1f} s of chain time, "
        f"{result.differs:,} of them with other content",
        f"A - B: p1 {_ms(result.p01_ms)}, p50 {_ms(result.p50_ms)}, p99 {_ms(result.p99_ms)} ms "
        "(below 0: A was first)",
    ]
    return "\n".join([*lines, "", *_bars(result.histogram)])


def _bars(counts: Sequence[int]) -> list[str]:
    most = max(counts, default=0)
    if not most:
        return []
    low = next(n for n, count in enumerate(counts) if count)
    high = max(n for n, count in enumerate(counts) if count)
    lines = []
    for n in range(low, high + 1):
        edge = EDGES_MS[n]
        label = f"> {EDGES_MS[n - 1]:g}" if edge == math.inf else f"<= {edge:g}"
        bar = "#" * math.ceil(counts[n] / most * BAR_CHARS)
        lines.append(f"{label:>9} ms {counts[n]:>7,} {bar}")
    return lines


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 raced, 1 an endpoint failed, 2 nothing to compare, or wrongly asked."""
    parser = argparse.ArgumentParser(
        prog="python -m hlrelay.race", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--a", required=True, help="a WebSocket address: wss://…")
    parser.add_argument("--b", required=True, help="the other one")
    parser.add_argument("--coin", default="BTC")
    parser.add_argument("--channel", default="trades", choices=CHANNELS)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    for name in ("a", "b"):
        if not getattr(given, name).startswith(("ws://", "wss://")):
            parser.error(f"--{name}: an address begins with ws:// or wss://")
    if not 1 <= given.seconds <= 3600:
        parser.error(f"--seconds: {given.seconds:g} is not from 1 to 3600")
    try:
        race = asyncio.run(
            run(given.a, given.b, channel=given.channel, coin=given.coin, seconds=given.seconds)
        )
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing: pip install websockets", file=sys.stderr)
        return 2
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    result = race.result()
    if given.json:
        ends = {"a": shown(given.a), "b": shown(given.b)}
        edges = [None if edge == math.inf else edge for edge in EDGES_MS]
        told = {"coin": given.coin, "channel": given.channel, "endpoints": ends, "edges_ms": edges}
        print(json.dumps(told | asdict(result)))
    else:
        print(f"A  {shown(given.a)}\nB  {shown(given.b)}\n{given.channel} of {given.coin}\n")
        print(table(result))
    if not result.compared:
        print("Nothing to compare: race for longer, or follow another coin.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
