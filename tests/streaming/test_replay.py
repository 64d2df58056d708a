"""`manage.py replay` prints what a subscriber would have got, from recorded node files and
WebSocket lines.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import call_command

from streaming.core.blocks import FileKind
from streaming.core.node_lines import decode
from streaming.hl_gateway.tail import FileMode, read_directory
from streaming.management.commands.replay import BadArguments
from tests.core.node_events import NaiveBook, fill, line, new, order, remove, status

BBO = {"type": "bbo", "coin": "BTC"}
BOOK = {"type": "l2Book", "coin": "BTC"}
TRADES = {"type": "trades", "coin": "BTC"}
L4 = {"type": "l4Book", "coin": "BTC"}
MIDS = {"type": "allMids"}
NOT_READY = "Order book not ready for streaming (waiting for snapshot): "


class Result:
    """What a run printed."""

    def __init__(self, out: bytes, err: str) -> None:
        self.lines = out.splitlines()
        self.frames = [orjson.loads(line) for line in self.lines]
        self.err = err

    def of(self, channel: str) -> list[Any]:
        return [frame["data"] for frame in self.frames if frame["channel"] == channel]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]):
    """Run the command in this process."""

    def run_here(*options: str | Path, subscribe: Sequence[dict[str, Any]] = (BBO,)) -> Result:
        wishes = [part for s in subscribe for part in ("--subscribe", orjson.dumps(s).decode())]
        capfdbinary.readouterr()
        call_command("replay", *map(str, options), *wishes)
        out, err = capfdbinary.readouterr()
        return Result(out, err.decode())

    return run_here


@pytest.fixture
def node_dir(tmp_path: Path) -> Path:
    """A by-block node directory of blocks 11 to 13, and a checkpoint of block 10 beside it."""
    write(
        tmp_path,
        "node_raw_book_diffs_by_block",
        [line(11, [new(3)]), line(12, []), line(13, [remove(1)])],
    )
    sides = [fill(5, "A", crossed=True), fill(5, "B")]
    write(tmp_path, "node_fills_by_block", [line(11, []), line(12, sides), line(13, [])])
    write(
        tmp_path,
        "node_order_statuses_by_block",
        [line(11, [status(3)]), line(12, []), line(13, [])],
    )
    book = [["BTC", [[order(1)], [order(2, side="A", px="101.0")]]]]
    (tmp_path / "checkpoint.json").write_bytes(orjson.dumps([10, book]))
    return tmp_path


def write(node_dir: Path, stem: str, lines: list[bytes]) -> Path:
    path = node_dir / stem / "hourly" / "20260505" / "17"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(text + b"\n" for text in lines))
    return path


# --- made-up files --------------------------------------------------------------------------------


def test_first_the_state_then_every_frame(run, node_dir: Path) -> None:
    result = run(
        *("--node-dir", node_dir, "--l4-snapshot", node_dir / "checkpoint.json"),
        subscribe=[BBO, TRADES, L4],
    )
    assert [frame["channel"] for frame in result.frames] == [
        *("bbo", "l4Book"),  # the state at block 10; nothing had traded
        *("bbo", "l4Book"),
        *("trades",),
        *("bbo", "l4Book"),
    ]
    assert [bid["n"] for bid, _ in (frame["bbo"] for frame in result.of("bbo"))] == [1, 2, 1]
    assert "faults" not in result.err


def test_blocks_up_to_the_checkpoint_are_the_past(run, node_dir: Path) -> None:
    later = [["BTC", [[order(3)], []]]]
    (node_dir / "later.json").write_bytes(orjson.dumps([12, later]))
    result = run(
        "--node-dir", node_dir, "--l4-snapshot", node_dir / "later.json", subscribe=[TRADES, BBO]
    )
    assert [frame["channel"] for frame in result.frames] == ["trades", "bbo"]
    assert [trade["tid"] for trade in result.of("trades")[0]] == [5]


def test_without_a_checkpoint_each_book_says_so_once(run, node_dir: Path) -> None:
    result = run("--node-dir", node_dir, subscribe=[BBO, TRADES, BOOK])
    assert result.of("error") == [
        NOT_READY + '{"type":"bbo","coin":"BTC"}',
        NOT_READY + '{"type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":false}',
    ]
    assert [frame["channel"] for frame in result.frames] == ["error", "error", "trades"]


def test_torn_and_garbage_lines_are_counted(run, node_dir: Path) -> None:
    path = node_dir / "node_fills_by_block" / "hourly" / "20260505" / "17"
    path.write_bytes(b"garbage\n" + path.read_bytes() + line(14, [])[:40])
    result = run("--node-dir", node_dir, subscribe=[TRADES])
    assert len(result.of("trades")) == 1
    assert "node_fills garbage 1" in result.err
    assert "node_fills torn_line 1" in result.err


def test_a_lost_block_stops_the_books_and_says_so(run, node_dir: Path) -> None:
    checkpoint = node_dir / "checkpoint.json"
    write(node_dir, "node_raw_book_diffs_by_block", [line(11, [new(3)]), line(13, [remove(1)])])
    result = run("--node-dir", node_dir, "--mode", "by_block", "--l4-snapshot", checkpoint)
    assert [frame["channel"] for frame in result.frames] == ["bbo", "bbo", "error"]
    assert "missing_blocks 1" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--node-dir", "{dir}/none"], "no such directory"),
        (["--node-dir", "{dir}/empty"], "no node files"),
        (["--ws", "{dir}/none.jsonl"], "no such file"),
        (["--ws", "{dir}/checkpoint.json", "--mode", "by_block"], "go with --node-dir"),
        (["--node-dir", "{dir}", "--l4-snapshot", "{dir}/none.json"], "cannot read the checkpoint"),
        (
            ["--node-dir", "{dir}", "--l4-snapshot", "{dir}/old.json"],
            "block 5,",
        ),
        (["--node-dir", "{dir}", "--subscribe", "BTC"], "--subscribe BTC"),
        (["--node-dir", "{dir}", "--subscribe", '{{"type":"nope"}}'], "type is not known"),
        (
            ["--node-dir", "{dir}", "--subscribe", '{{"type":"candle"}}'],
            "interval must be one of",
        ),
    ],
)
def test_bad_arguments_are_one_line_and_code_2(run, node_dir, options, message) -> None:
    (node_dir / "empty").mkdir()
    (node_dir / "old.json").write_bytes(b"[5,[]]")
    with pytest.raises(BadArguments, match=message) as caught:
        run(*[option.format(dir=node_dir) for option in options])
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)


def test_nothing_to_subscribe_is_refused(run, node_dir: Path) -> None:
    with pytest.raises(BadArguments, match="at least one --subscribe"):
        run("--node-dir", node_dir, subscribe=[])


def test_recorded_frames_cannot_give_what_the_exchange_has_not(run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(BadArguments, match="cannot give"):
        run("--ws", tmp_path / "a.jsonl", subscribe=[L4])


def test_a_closed_pipe_ends_quietly(node_dir: Path) -> None:
    """As a user does it: the real process, and a reader that is gone before the first frame."""
    write(
        node_dir,
        "node_fills_by_block",
        [line(11 + i, [fill(i, "A"), fill(i, "B")]) for i in range(2000)],
    )
    manage = Path(__file__).parents[2] / "manage.py"
    command = [sys.executable, str(manage), "replay", "--node-dir", str(node_dir)]
    read_end, write_end = os.pipe()
    with subprocess.Popen(
        [*command, "--subscribe", '{"type":"trades","coin":"BTC"}'],
        stdout=write_end,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write_end)
        os.close(read_end)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Error" not in err
    assert b"Traceback" not in err


# --- recorded WebSocket lines ---------------------------------------------------------------------


def test_ws_files_merge_by_time_and_pass_byte_for_byte(run, tmp_path: Path) -> None:
    bbo = b'{"channel": "bbo","data":{"coin":"BTC","time":1,"bbo":[null,null]}}'
    trade = b'{"channel":"trades","data":[{"coin":"BTC","time":1,"tid":7}]}'
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    first.write_bytes(
        b'{"ts":"2026-07-07T17:15:12+00:00","payload":%b}\nnot a line\n'
        b'{"payload":%b,"ts":"2026-07-07T17:15:14.5+00:00"}\n' % (trade, bbo)
    )
    second.write_bytes(gzip.compress(b'{"ts":"2026-07-07T17:15:13+00:00","payload":%b}\n' % trade))
    result = run("--ws", first, second, subscribe=[BBO, TRADES])
    assert [frame["channel"] for frame in result.frames] == ["trades", "bbo"]
    assert result.lines[0] == trade
    assert "bad_ws_line 1" in result.err


def test_recorded_stream_state_frames_equal_and_every_trade_once(run, test_data: Path) -> None:
    folder = test_data / "ws_hip4"
    files = [
        folder / f"argentina_egypt_live.ws_{name}.jsonl.gz" for name in ("l2book", "bbo", "trades")
    ]
    recorded = {
        path.name: [orjson.loads(text)["payload"] for text in unpacked(path)] for path in files
    }
    books, bbos, prints = recorded.values()
    coin = "#7510"
    result = run(
        *("--ws", *files),
        subscribe=[
            {"type": "l2Book", "coin": coin, "fast": True},
            {"type": "bbo", "coin": coin},
            {"type": "trades", "coin": coin},
        ],
    )
    assert result.of("l2Book") == [f["data"] for f in books if f["data"]["coin"] == coin]
    assert result.of("bbo") == [f["data"] for f in bbos if f["data"]["coin"] == coin]
    seen: dict[tuple[int, int], dict[str, Any]] = {}
    for frame in prints:
        for trade in frame["data"]:
            if trade["coin"] == coin:
                seen.setdefault((trade["time"], trade["tid"]), trade)
    assert [trade for frame in result.of("trades") for trade in frame] == list(seen.values())
    assert "faults" not in result.err


def unpacked(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as stream:
        yield from stream


# --- the recorded node ----------------------------------------------------------------------------

EVERYTHING = [
    *(BBO, BOOK, TRADES, MIDS, L4),
    {"type": "l2Book", "coin": "BTC", "nLevels": 100},
    {"type": "l2Book", "coin": "BTC", "fast": True},
    {"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": 5},
    {"type": "l2Book", "coin": "BTC", "nSigFigs": 2},
]


@pytest.fixture
def recorded(test_data: Path) -> Path:
    return test_data / "node"


def test_both_modes_give_the_same_frames_and_nothing_is_amiss(run, recorded: Path) -> None:
    checkpoint = recorded / "l4_snapshot_btc_height_985148181.json.gz"
    by_mode = [
        run(
            *("--node-dir", recorded, "--mode", mode.value, "--l4-snapshot", checkpoint),
            subscribe=EVERYTHING,
        )
        for mode in FileMode
    ]
    by_block, streaming = by_mode
    assert by_block.lines == streaming.lines
    assert "faults" not in by_block.err + streaming.err
    assert len(by_block.of("trades")) == 7
    assert len(by_block.of("l4Book")) == 1 + 30
    # One starting frame, then one for each of the 30 blocks with changes: five variants.
    assert len(by_block.of("l2Book")) == 5 * 31


def test_bbo_of_every_block_is_that_of_a_naive_book(run, recorded: Path) -> None:
    checkpoint = recorded / "l4_snapshot_btc_height_985148181.json.gz"
    with gzip.open(checkpoint) as stream:
        ((_, sides),) = orjson.loads(stream.read())[1]
    model = NaiveBook()
    for side in sides:
        for user, body in side:
            fresh = new(body["oid"], body["sz"], side=body["side"], px=body["limitPx"])
            model.apply({**fresh, "user": user})
    expected: list[Any] = []
    for height, events in recorded_events(recorded, FileKind.DIFFS).items():
        for event in events:
            model.apply(event)
        best = [best_of(model, "B"), best_of(model, "A")]
        if not expected or expected[-1][1] != best:
            expected.append((height, best))
    result = run("--node-dir", recorded, "--l4-snapshot", checkpoint)
    got = [[(level["px"], level["n"]) for level in frame["bbo"]] for frame in result.of("bbo")[1:]]
    assert [[(f"{px}", n) for px, _, n in best] for _, best in expected] == got


def best_of(model: NaiveBook, side: str) -> tuple[Any, ...]:
    resting = [own for own in model.orders.values() if own[0] == side]
    px = (max if side == "B" else min)(own[1] for own in resting)
    level = [own[2] for own in resting if own[1] == px]
    return px, sum(level), len(level)


def test_trades_are_the_fill_pairs(run, recorded: Path) -> None:
    pairs: dict[int, dict[str, tuple[str, dict[str, Any]]]] = defaultdict(dict)
    for events in recorded_events(recorded, FileKind.FILLS).values():
        for user, body in events:
            pairs[body["tid"]][body["side"]] = (user, body)
    expected = []
    for tid, sides in pairs.items():
        (buyer, bought), (seller, sold) = sides["B"], sides["A"]
        taker = bought if bought["crossed"] else sold
        same = {key: taker[key] for key in ("coin", "side", "px", "sz", "time", "hash")}
        expected.append({**same, "tid": tid, "users": [buyer, seller]})
    result = run("--node-dir", recorded, subscribe=[TRADES])
    assert [trade for frame in result.of("trades") for trade in frame] == expected
    assert list(result.of("trades")[0][0]) == list(expected[0])


def recorded_events(folder: Path, kind: FileKind) -> dict[int, list[Any]]:
    events: dict[int, list[Any]] = {}
    for raw in read_directory(folder, mode=FileMode.BY_BLOCK, kinds=[kind]):
        block = decode(raw, defaultdict(int))  # type: ignore[arg-type]
        assert block is not None
        events[block.height] = block.events
    return events


def test_a_customer_rebuilds_the_recorded_book_from_l4(run, recorded: Path) -> None:
    """Snapshot, then updates: the levels a customer computes are those of the last l2Book frame."""
    checkpoint = recorded / "l4_snapshot_btc_height_985148181.json.gz"
    result = run("--node-dir", recorded, "--l4-snapshot", checkpoint, subscribe=[L4, BOOK])
    start, *updates = result.of("l4Book")
    model = NaiveBook()
    for side in start["Snapshot"]["levels"]:
        for body in side:
            model.apply(new(body["oid"], body["sz"], side=body["side"], px=body["limitPx"]))
    for update in updates:
        sides = {
            own["order"]["oid"]: own["order"]["side"] for own in update["Updates"]["order_statuses"]
        }
        for event in update["Updates"]["book_diffs"]:
            model.apply({**event, "side": sides.get(event["oid"])})
    last = result.of("l2Book")[-1]["levels"]
    for side, levels in zip("BA", last, strict=True):
        expected = [(f"{px}", n) for px, _, n in model.levels(side)[:20]]
        assert [(level["px"], level["n"]) for level in levels] == expected
