"""race.py keeps the rules of docs/race.md, and races two real servers."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from hlrelay import race
from hlrelay.race import EDGES_MS, Event, Failed, Race, events_of, histogram, percentile, table
from tests.docsite.snippets import ROOT

A, B = 0, 1
MS = 1_000_000


def event(n: int, content: Any = None) -> Event:
    return Event(n, n, content)


def raced(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> Race:
    """Arrivals as (event, ms); both begin with event 0 and end with event 1,000."""
    found = Race()
    for side, arrivals in ((A, a), (B, b)):
        found.frame(side, [event(0)], at_ns=0)
        for n, at_ms in arrivals:
            found.frame(side, [event(n)], at_ns=at_ms * MS)
        found.frame(side, [event(1_000)], at_ns=9_999 * MS)
    return found


def test_who_was_first_and_by_how_much() -> None:
    result = raced([(1, 10), (2, 20), (3, 33)], [(1, 14), (2, 26), (3, 30)]).result()
    assert (result.compared, result.a.first, result.b.first) == (3, 2, 1)
    assert (result.p50_ms, result.p99_ms, result.p01_ms) == (-4.0, 3.0, -6.0)
    assert (result.a.lead_p50_ms, result.a.lead_p99_ms, result.b.lead_p50_ms) == (4.0, 6.0, 3.0)


def test_what_is_missing_and_what_comes_twice() -> None:
    result = raced([(1, 10), (1, 11), (2, 20)], [(2, 21), (3, 30), (4, 40)]).result()
    assert (result.a.missing, result.b.missing) == (2, 1)
    assert (result.a.twice, result.b.twice) == (1, 0)
    assert (result.a.events, result.b.events, result.compared) == (2, 3, 1)


def test_nothing_counts_from_before_both_had_begun_or_after_one_has_ended() -> None:
    found = Race()
    found.frame(A, [event(n) for n in range(5)], at_ns=0)
    found.frame(A, [event(5)], at_ns=1)
    found.frame(B, [event(n) for n in range(6, 8)], at_ns=2)  # began later
    for n in (6, 7, 8, 9):
        found.frame(A, [event(n)], at_ns=n)
    for n in (8, 9, 10, 11):
        found.frame(B, [event(n)], at_ns=n)
    assert found.window_ms() == (7, 9)
    result = found.result()
    assert (result.a.events, result.b.events, result.compared) == (1, 1, 1)
    assert result.a.missing == result.b.missing == 0


def test_different_words_about_one_event() -> None:
    found = Race()
    for side, size in ((A, "1.0"), (B, "2.0")):
        for n, content in ((0, ""), (1, size), (2, "same"), (3, "")):
            found.frame(side, [event(n, content)], at_ns=n)
    assert found.result().differs == 1


def test_nothing_yet() -> None:
    found = Race()
    assert found.result().compared == 0
    found.frame(A, [event(1)], at_ns=1)
    found.frame(B, [], at_ns=1)
    assert found.result().compared == 0
    assert "0 events at both" in table(found.result())


ARRIVALS = st.lists(st.tuples(st.integers(1, 999), st.integers(1, 9_000)), max_size=40)


@given(ARRIVALS, ARRIVALS)
def test_swapping_the_sides_mirrors_the_result(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    one, other = raced(a, b).result(), raced(b, a).result()
    assert (one.a, one.b) == (other.b, other.a)
    assert one.compared == other.compared == len({n for n, _ in a} & {n for n, _ in b})
    assert sum(one.histogram) == one.compared
    assert one.a.first + one.b.first <= one.compared
    assert one.a.events - one.compared == one.b.missing


def test_percentiles_are_nearest_ranks() -> None:
    assert percentile([], 50) is None
    assert percentile([1.0], 99) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_the_histogram_has_a_place_for_everything() -> None:
    counts = histogram([-5_000, -1_000, 0, 0.5, 5_000])
    assert sum(counts) == 5
    assert counts[0] == 2
    assert counts[-1] == 1
    assert EDGES_MS[-1] == math.inf


def test_frames_are_read_as_the_exchange_writes_them() -> None:
    trade = {
        "coin": "BTC", "side": "B", "px": "1.0", "sz": "2.0", "time": 7, "tid": 9, "hash": "0x",
        "users": ["a", "b"],
    }  # fmt: skip
    frame = {"channel": "trades", "data": [trade, {**trade, "coin": "ETH"}], "seq": 4}
    assert events_of(frame, channel="trades", coin="BTC") == [Event((7, 9), 7, ("B", "1.0", "2.0"))]
    bbo = {"channel": "bbo", "data": {"coin": "BTC", "time": 5, "bbo": [None, {"px": "1"}]}}
    assert events_of(bbo, channel="bbo", coin="BTC") == [Event(5, 5, [None, {"px": "1"}])]
    book = {"channel": "l2Book", "data": {"coin": "BTC", "time": 5, "levels": [[1] * 20, [2] * 9]}}
    assert events_of(book, channel="l2Book", coin="BTC")[0].content == [[1] * 5, [2] * 5]
    for other in ({"channel": "pong"}, None, [], {"channel": "subscriptionResponse", "data": {}}):
        assert events_of(other, channel="trades", coin="BTC") == []


def test_keys_are_not_shown() -> None:
    assert race.shown("wss://u:secret@h.example:9/hlr_live_x/ws?key=y") == "wss://h.example:9"


async def _refusing(socket: ServerConnection) -> None:
    await socket.recv()
    await socket.send('{"channel":"error","data":"no such coin"}')
    await socket.wait_closed()


async def _silent(socket: ServerConnection) -> None:
    await socket.wait_closed()


async def _ending(socket: ServerConnection) -> None:
    await socket.recv()


@pytest.mark.parametrize(
    ("handler", "line"),
    [
        (_refusing, "says: no such coin"),
        (_silent, "said nothing of BTC within 1 s"),
        (_ending, "ended the connection"),
    ],
)
async def test_an_endpoint_that_cannot_race_is_named(handler: Any, line: str) -> None:
    async with serve(handler, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        with pytest.raises(Failed, match=line):
            async with asyncio.timeout(20):
                await race.run(url, url, channel="trades", coin="BTC", seconds=1.0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--a", "https://x", "--b", "ws://y"], "--a: an address begins with ws:// or wss://"),
        (["--a", "ws://x", "--b", "ws://y", "--seconds", "0"], "is not from 1 to 3600"),
    ],
)
def test_a_wrong_question_gets_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        race.main(arguments)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.relay
@pytest.mark.parametrize("by", [["-m", "hlrelay.race"], ["clients/python/hlrelay/race.py"]])
def test_relay_and_simulator_race(relay: dict[str, Any], by: list[str]) -> None:
    """The relay is behind the simulator, whose public socket is the other end: the same trades."""
    simulator = relay["simulator"].replace("http", "ws", 1) + "/ws"
    command = [
        sys.executable, *by, "--a", relay["ws"], "--b", simulator, "--seconds", "6", "--json",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "clients/python"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["compared"] > 5
    assert found["a"]["missing"] == found["b"]["missing"] == found["differs"] == 0
    assert found["a"]["twice"] == found["b"]["twice"] == 0
    assert sum(found["histogram"]) == found["compared"]
    assert relay["api_key"] not in done.stdout
    assert abs(found["p50_ms"]) < 5_000


def test_the_page_shows_the_table_as_it_is_printed() -> None:
    text = (ROOT / "docs" / "race.md").read_text()
    printed = table(raced([(1, 10), (2, 20)], [(1, 14), (2, 26)]).result()).splitlines()
    names = [line[:14].strip() for line in printed[:7]]
    shown = text.split("```text\n")[1].splitlines()
    assert [line[:14].strip() for line in shown[:7]] == names


def test_the_page_in_the_browser_is_held_to_these_results() -> None:
    """`tests/dashboard/js/race.test.js` reads the same file."""
    cases = json.loads((ROOT / "tests" / "dashboard" / "js" / "race.json").read_text("utf-8"))
    assert len(cases) > 5
    for case in cases:
        race = Race()
        for side, frame, at_ms in case["frames"]:
            events = events_of(frame, channel=case["channel"], coin=case["coin"])
            race.frame(side, events, at_ns=round(at_ms * 1e6))
        assert asdict(race.result()) == case["result"]
