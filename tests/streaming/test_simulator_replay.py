"""Recorded data served again: complete, in order, with its timing."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from streaming.simulator.files.writer import Mode
from streaming.simulator.replay.player import Player, Start
from streaming.simulator.replay.sources import UnusableRecording, data_route, find, moment_ns

DEADLINE_S = 20


def bbo(coin: str, second: float, px: str) -> dict:
    data = {
        "coin": coin,
        "time": int(second * 1_000),
        "bbo": [{"px": px, "sz": "1.0", "n": 1}, None],
    }
    return {
        "ts": f"2026-07-07T17:15:{second:09.6f}+00:00",
        "payload": {"channel": "bbo", "data": data},
    }


def trades(second: float, *tids: int) -> dict:
    rows = [{"coin": "#7510", "side": "B", "px": "0.5", "sz": "1.0", "tid": tid} for tid in tids]
    return {
        "ts": f"2026-07-07T17:15:{second:09.6f}Z",
        "payload": {"channel": "trades", "data": rows},
    }


def write(path: Path, rows: list[dict]) -> Path:
    content = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@asynccontextmanager
async def playing(player: Player) -> AsyncIterator[str]:
    """A player that serves and plays; the answer is its base URL."""
    async with player.listen():
        task = asyncio.create_task(player.run())
        try:
            yield f"http://127.0.0.1:{player.endpoint.port}"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def subscribe(ws: aiohttp.ClientWebSocketResponse, **subscription: object) -> None:
    await ws.send_json({"method": "subscribe", "subscription": subscription})
    while (await ws.receive_json(timeout=DEADLINE_S))["channel"] != "subscriptionResponse":
        pass


async def texts(ws: aiohttp.ClientWebSocketResponse, count: int) -> list[str]:
    return [await ws.receive_str(timeout=DEADLINE_S) for _ in range(count)]


async def test_files_are_merged_by_time_and_bytes_are_kept(tmp_path: Path) -> None:
    one = [bbo("#7510", 1, "0.5"), bbo("#7510", 3, "0.7"), bbo("#7511", 3.5, "0.1")]
    two = [trades(2, 1, 2), trades(4, 3)]
    files = [write(tmp_path / "a.jsonl", one), write(tmp_path / "b.jsonl.gz", two)]
    async with (
        playing(Player(find(files), speed=0)) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/ws") as ws,
    ):
        await subscribe(ws, type="bbo", coin="#7510")
        await subscribe(ws, type="trades", coin="#7510")
        wanted = [one[0], two[0], one[1], two[1]]
        compact = [json.dumps(row["payload"], separators=(",", ":")) for row in wanted]
        assert await texts(ws, 4) == compact


async def test_the_replay_waits_for_a_subscriber_and_keeps_its_gaps(tmp_path: Path) -> None:
    rows = [bbo("#7510", 1, "0.5"), bbo("#7510", 4, "0.6")]
    player = Player(find([write(tmp_path / "a.jsonl", rows)]), speed=10)
    async with (
        playing(player) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/ws") as ws,
    ):
        await ws.send_json({"method": "ping"})
        await ws.receive_str(timeout=DEADLINE_S)
        assert not player.has_started
        await subscribe(ws, type="bbo", coin="#7510")
        await texts(ws, 1)
        began_s = time.monotonic()
        await texts(ws, 1)
        assert 0.2 < time.monotonic() - began_s < 5


async def test_a_late_subscriber_gets_the_last_state_and_the_last_trades(tmp_path: Path) -> None:
    rows = [bbo("#7510", 1, "0.5"), bbo("#7510", 2, "0.6")]
    rows += [trades(3 + n / 100, n) for n in range(40)] + [trades(5, 38, 39)]
    player = Player(find([write(tmp_path / "a.jsonl", rows)]), speed=0, start=Start.AT_ONCE)
    async with playing(player) as url, aiohttp.ClientSession() as http:
        async with asyncio.timeout(DEADLINE_S):
            await player.finished.wait()
        async with http.ws_connect(f"{url}/ws") as ws:
            await subscribe(ws, type="bbo", coin="#7510")
            assert json.loads((await texts(ws, 1))[0]) == rows[1]["payload"]
            await subscribe(ws, type="trades", coin="#7510")
            replayed = json.loads((await texts(ws, 1))[0])["data"]
            assert [trade["tid"] for trade in replayed] == list(range(10, 40))


async def test_recorded_coins_are_listed_and_others_are_not(tmp_path: Path) -> None:
    rows = [bbo("#7510", 1, "0.5"), bbo("@107", 2, "38.0"), bbo("xyz:SP500", 3, "6742.1")]
    player = Player(find([write(tmp_path / "a.jsonl", rows)]), speed=0, start=Start.AT_ONCE)
    async with playing(player) as url, aiohttp.ClientSession() as http:

        async def info(**body: object) -> object:
            async with http.post(f"{url}/info", json=body) as answer:
                return await answer.json()

        async with asyncio.timeout(DEADLINE_S):
            await player.finished.wait()
        assert [row["name"] for row in (await info(type="meta"))["universe"]] == ["#7510"]
        assert [row["name"] for row in (await info(type="meta", dex="xyz"))["universe"]] == [
            "xyz:SP500"
        ]
        spot = await info(type="spotMeta")
        assert [(pair["name"], pair["index"]) for pair in spot["universe"]] == [("@107", 107)]
        assert (await info(type="outcomeMeta"))["outcomes"][0]["outcome"] == 751
        assert (await info(type="exchangeStatus"))["time"] == 1_783_444_503_000
        async with http.ws_connect(f"{url}/ws") as ws:
            await ws.send_json(
                {"method": "subscribe", "subscription": {"type": "bbo", "coin": "BTC"}}
            )
            assert (await ws.receive(timeout=DEADLINE_S)).type is aiohttp.WSMsgType.CLOSED


def block(height: int, second: float) -> str:
    head = f'{{"local_time":"2026-05-05T17:59:{second:012.9f}","block_time":"x"'
    return f'{head},"block_number":{height},"events":[]}}'


def node_file(folder: Path, stream: str, suffix: str, heights: dict[int, float]) -> None:
    rows = "".join(block(height, second) + "\n" for height, second in heights.items())
    (folder / f"{stream}_{suffix}.20260505_17.jsonl").write_text(rows)


@pytest.fixture
def node_recording(tmp_path: Path) -> Path:
    folder = tmp_path / "recorded"
    folder.mkdir()
    for stream in ("node_fills", "node_raw_book_diffs", "node_order_statuses"):
        node_file(folder, stream, "by_block", {1: 1.0, 2: 1.1, 3: 59.99})
        node_file(folder, stream, "streaming", {1: 3.0, 3: 4.0})
    order = {"oid": 1}
    snapshot = [0, [["BTC", [[["0xada", order]], []]]]]
    (folder / "l4_snapshot_btc.json").write_text(json.dumps(snapshot, separators=(",", ":")))
    return folder


@pytest.mark.parametrize("mode", list(Mode))
async def test_node_lines_go_where_a_node_wrote_them(
    tmp_path: Path, node_recording: Path, mode: Mode
) -> None:
    out = tmp_path / "node"
    player = Player(find([node_recording]), dir=out, mode=mode, speed=0, start=Start.AT_ONCE)
    async with asyncio.timeout(DEADLINE_S):
        await player.run()
    assert player.height == 3
    for suffix in mode.suffixes:
        for stream in ("node_fills", "node_raw_book_diffs", "node_order_statuses"):
            written = (out / f"{stream}_{suffix}/hourly/20260505/17").read_bytes()
            source = node_recording / f"{stream}_{suffix}.20260505_17.jsonl"
            assert written == source.read_bytes()
    assert len(list(out.iterdir())) == 3 * len(mode.suffixes)


async def test_a_node_replay_begins_with_the_first_question_and_answers_its_snapshot(
    tmp_path: Path, node_recording: Path
) -> None:
    player = Player(find([node_recording]), dir=tmp_path / "node", speed=0)
    async with playing(player) as url, aiohttp.ClientSession() as http:
        out = tmp_path / "out.json"
        body = {
            "type": "fileSnapshot",
            "request": {"type": "l4Snapshots", "includeUsers": True},
            "outPath": str(out),
            "includeHeightInOutput": True,
        }
        assert not player.has_started
        async with http.post(f"{url}/info", json=body) as answer:
            assert answer.status == 200
        assert out.read_bytes() == (node_recording / "l4_snapshot_btc.json").read_bytes()
        async with asyncio.timeout(DEADLINE_S):
            await player.finished.wait()
        body["request"], body["includeHeightInOutput"] = {"type": "l4Snapshots"}, False
        async with http.post(f"{url}/info", json=body):
            assert json.loads(out.read_bytes()) == [["BTC", [[{"oid": 1}], []]]]


async def test_a_directory_with_lines_is_not_written_to_again(
    tmp_path: Path, node_recording: Path
) -> None:
    out = tmp_path / "node"
    await Player(find([node_recording]), dir=out, speed=0, start=Start.AT_ONCE).run()
    with pytest.raises(UnusableRecording, match="already holds lines"):
        Player(find([node_recording]), dir=out)
    with pytest.raises(UnusableRecording, match="need a directory"):
        Player(find([node_recording]))


def test_what_cannot_be_replayed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableRecording, match="does not exist"):
        find([tmp_path / "gone"])
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnusableRecording, match=r"notes\.txt is neither"):
        find([tmp_path / "notes.txt"])
    with pytest.raises(UnusableRecording, match="nothing to replay"):
        find([tmp_path])


@pytest.mark.parametrize(
    "moment",
    [
        "2026-07-07T17:15:11.858124+00:00",
        "2026-07-07T17:15:11.858124Z",
        "2026-07-07T19:15:11.858124+02:00",
        1_783_444_511.858124,
        1_783_444_511_858.124,
    ],
)
def test_times_of_every_recorder(moment: object) -> None:
    assert moment_ns(moment) == pytest.approx(1_783_444_511_858_124_000, abs=1_000)


def test_frames_nobody_subscribes_to_have_no_route() -> None:
    assert data_route("trades", []) is None
    assert data_route("error", "text") is None
    assert data_route("subscriptionResponse", {"method": "subscribe"}) is None


async def test_a_real_recording_arrives_whole(test_data: Path) -> None:
    paths = sorted((test_data / "ws_hip4").glob("*.ws_*.jsonl.gz"))
    wanted: list[tuple[str, bytes]] = []
    for path in paths:
        with gzip.open(path) as file:
            for line in file:
                row = json.loads(line)
                data = row["payload"]["data"]
                coin = (data[0] if isinstance(data, list) else data)["coin"]
                if coin == "#7510":
                    wanted.append((row["ts"], line[line.index(b'"payload":') + 10 :].rstrip()[:-1]))
    wanted.sort(key=lambda pair: pair[0])
    player = Player(find(paths), speed=0)
    async with (
        playing(player) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/ws") as ws,
    ):
        for kind in ("l2Book", "bbo", "trades"):
            await subscribe(ws, type=kind, coin="#7510")
        got = [text.encode() for text in await texts(ws, len(wanted))]
    assert got == [payload for _, payload in wanted]


async def test_real_node_files_are_written_byte_for_byte(test_data: Path, tmp_path: Path) -> None:
    player = Player(
        find([test_data / "node"]), dir=tmp_path, mode=Mode.BOTH, speed=0, start=Start.AT_ONCE
    )
    await player.run()
    assert (player.height, player.market.coins) == (985148212, {"BTC"})
    kinds = ("fills", "order_statuses", "raw_book_diffs")
    for kind, suffix in itertools.product(kinds, ("by_block", "streaming")):
        (source,) = (test_data / "node").glob(f"node_{kind}_{suffix}.*.jsonl.gz")
        written = (tmp_path / f"node_{kind}_{suffix}/hourly/20260505/17").read_bytes()
        assert written == gzip.decompress(source.read_bytes())
