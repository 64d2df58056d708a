"""Node files: a real node's lines, hours and snapshots."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from pathlib import Path

import pytest

from streaming.simulator import Mode, Settings, Simulator
from streaming.simulator.files.resume import iso_to_ns, last_block
from streaming.simulator.files.snapshot import render_l4

START_NS = 1_790_000_000_000_000_000
HOUR_NS = 3_600_000_000_000
STREAMS = ("node_fills", "node_raw_book_diffs", "node_order_statuses")
#: Seldom with something in them.
RARE_STREAMS = (
    "misc_events",
    "node_twap_statuses",
    "system_and_core_writer_actions",
    "hip3_oracle_updates",
)


class Clock:
    """A local clock that moves one microsecond a look, and as told."""

    def __init__(self, at_ns: int = START_NS + 300_000_000) -> None:
        self.at_ns = at_ns

    def __call__(self) -> int:
        self.at_ns += 1_000
        return self.at_ns


def simulator(
    path: Path, *, mode: Mode = Mode.BOTH, clock: Clock | None = None, **options: int
) -> Simulator:
    settings = Settings(seed=5, start_time_ns=START_NS, mode=mode, **options)
    return Simulator(settings, dir=path, now_ns=clock or Clock())


def run(path: Path, blocks: int, **options: object) -> Simulator:
    sim = simulator(path, **options)  # type: ignore[arg-type]
    for _ in range(blocks):
        sim.step()
    sim.close()
    return sim


def lines(path: Path, stream: str, suffix: str) -> list[dict]:
    files = sorted((path / f"{stream}_{suffix}" / "hourly").glob("*/*"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def test_the_same_seed_writes_the_same_bytes_but_for_the_local_time(tmp_path: Path) -> None:
    run(tmp_path / "one", 30)
    run(tmp_path / "two", 30, clock=Clock(START_NS + 999_000_000))
    for stream, suffix in itertools.product(STREAMS, ("by_block", "streaming")):
        one, two = lines(tmp_path / "one", stream, suffix), lines(tmp_path / "two", stream, suffix)
        assert one
        assert [{**row, "local_time": ""} for row in one] == [{**r, "local_time": ""} for r in two]


def test_a_line_a_block_empty_ones_too_and_a_line_an_event(tmp_path: Path) -> None:
    sim = run(tmp_path, 120)
    for stream in STREAMS:
        by_block, streamed = (
            lines(tmp_path, stream, "by_block"),
            lines(tmp_path, stream, "streaming"),
        )
        assert [row["block_number"] for row in by_block] == list(
            range(sim.height - 119, sim.height + 1)
        )
        assert all(len(row["events"]) == 1 for row in streamed)
        joined = [
            (height, [event for row in rows for event in row["events"]])
            for height, rows in itertools.groupby(streamed, key=lambda row: row["block_number"])
        ]
        assert joined == [(r["block_number"], r["events"]) for r in by_block if r["events"]]
    assert any(not row["events"] for row in lines(tmp_path, "node_fills", "by_block"))


def test_the_hour_is_that_of_the_local_clock_and_unpadded(tmp_path: Path) -> None:
    # 2026-09-21T14:13:20 UTC is the start; the node writes it while its own clock shows 03:59:59.
    midnight_ns = START_NS - START_NS % (24 * HOUR_NS)
    clock = Clock(midnight_ns + 4 * HOUR_NS - 10_000)
    run(tmp_path, 20, mode=Mode.BY_BLOCK, clock=clock, keep_hours=0)
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {
        f"{stream}_by_block/hourly/20260921/{hour}"
        for stream in (*STREAMS, *RARE_STREAMS)
        for hour in (3, 4)
    }


def test_old_hours_are_pruned_as_new_ones_begin(tmp_path: Path) -> None:
    clock = Clock()
    sim = simulator(tmp_path, mode=Mode.BY_BLOCK, clock=clock, keep_hours=2)
    for _ in range(14):
        sim.step()
        clock.at_ns += HOUR_NS
    sim.close()
    for stream in STREAMS:
        kept = [p for p in (tmp_path / f"{stream}_by_block").rglob("*") if p.is_file()]
        assert sorted(str(p.relative_to(tmp_path)).split("/", 2)[2] for p in kept) == [
            "20260922/2",
            "20260922/3",
        ]


def test_a_restart_goes_on_above_the_last_height_and_heals_a_torn_line(tmp_path: Path) -> None:
    clock = Clock()
    before = run(tmp_path, 10, mode=Mode.BY_BLOCK, clock=clock)
    oids = {
        row["oid"]
        for r in lines(tmp_path, "node_raw_book_diffs", "by_block")
        for row in r["events"]
    }
    file = next((tmp_path / "node_fills_by_block").rglob("14"))
    with file.open("ab") as torn:
        torn.write(b'{"local_time":"2026-09-21T14:13:21.0')
    after = run(tmp_path, 5, mode=Mode.BY_BLOCK, clock=clock)
    assert after.height == before.height + 100 + 5
    rows = file.read_bytes().split(b"\n")
    assert rows.pop() == b""
    assert sum(1 for row in rows if not row.endswith(b"]}")) == 1
    times = [iso_to_ns(r["block_time"]) for r in lines(tmp_path, "node_raw_book_diffs", "by_block")]
    assert times == sorted(set(times))
    fresh = [
        diff["oid"]
        for row in lines(tmp_path, "node_raw_book_diffs", "by_block")[10:]
        for diff in row["events"]
        if "new" in diff["raw_book_diff"]
    ]
    assert not oids & set(fresh)


def test_an_empty_directory_has_no_last_block(tmp_path: Path) -> None:
    assert last_block(tmp_path / "nowhere") is None


def test_each_line_reaches_the_file_in_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = os.write

    def watched(fd: int, data: bytes) -> int:
        written.append(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", watched)
    run(tmp_path, 3)
    assert written
    assert all(data.endswith(b"]}\n") and data.count(b"\n") == 1 for data in written)


def test_the_snapshot_is_the_book_at_its_height(tmp_path: Path) -> None:
    sim = run(tmp_path, 50, mode=Mode.BY_BLOCK)
    content = render_l4(
        sim.exchange.books.values(), height=sim.height, include_users=True, include_triggers=False
    )
    height, coins = json.loads(content)
    assert height == sim.height
    live: dict[int, str] = {}
    for row in lines(tmp_path, "node_raw_book_diffs", "by_block"):
        for diff in row["events"]:
            change = diff["raw_book_diff"]
            if change == "remove":
                live.pop(diff["oid"], None)
            elif "new" in change:
                live[diff["oid"]] = change["new"]["sz"]
            else:
                live[diff["oid"]] = change["update"]["newSz"]
    shown = {order["oid"]: order["sz"] for _, sides in coins for side in sides for _, order in side}
    assert shown == live
    for _, (bids, asks) in coins:
        for side, sign in ((bids, -1), (asks, 1)):
            keys = [(sign * float(o["limitPx"]), o["timestamp"], o["oid"]) for _, o in side]
            assert [key[0] for key in keys] == sorted(key[0] for key in keys)


def test_stops_come_last_in_a_snapshot_that_asks_for_them() -> None:
    sim = Simulator(Settings(seed=5, start_time_ns=START_NS))
    for _ in range(400):
        sim.step()
    coins = json.loads(
        render_l4(
            sim.exchange.books.values(), height=None, include_users=False, include_triggers=True
        )
    )
    flags = [[order["isTrigger"] for order in side] for _, sides in coins for side in sides]
    assert any(True in side for side in flags)
    assert all(side == sorted(side) for side in flags)


def shape(value: object) -> object:
    """Keys in their order, all the way down; values forgotten."""
    if isinstance(value, dict):
        return [(key, shape(each)) for key, each in value.items()]
    return [shape(each) for each in value] if isinstance(value, list) else None


def recorded_shapes(test_data: Path, stream: str) -> set[str]:
    (file,) = (test_data / "node").glob(f"{stream}_by_block.*.jsonl.gz")
    with gzip.open(file) as rows:
        blocks = [json.loads(row) for row in rows]
    return {json.dumps(shape(event)) for block in blocks for event in block["events"]}


@pytest.mark.parametrize("suffix", ["by_block", "streaming"])
@pytest.mark.parametrize("stream", STREAMS)
def test_lines_have_the_recorded_keys_in_the_recorded_order(
    tmp_path: Path, test_data: Path, stream: str, suffix: str
) -> None:
    run(tmp_path, 200)
    (file,) = (test_data / "node").glob(f"{stream}_{suffix}.*.jsonl.gz")
    with gzip.open(file) as rows:
        real = json.loads(rows.readline())
    ours = lines(tmp_path, stream, suffix)
    assert {tuple(row) for row in ours} == {tuple(real)}
    assert len(ours[0]["block_time"]) == len(real["block_time"])
    shapes = {json.dumps(shape(event)) for row in ours for event in row["events"]}
    assert recorded_shapes(test_data, stream) <= shapes


def test_fill_keys_beyond_the_recorded_stand_where_other_recordings_have_them(
    tmp_path: Path, test_data: Path
) -> None:
    run(tmp_path, 600)
    rows = json.loads((test_data / "node" / "dwellir_grpc_fills_20251014_first60.json").read_text())
    events = rows["events"] if isinstance(rows, dict) else rows
    ours = {tuple(f) for r in lines(tmp_path, "node_fills", "by_block") for _, f in r["events"]}
    assert {tuple(fill) for _, fill in events} <= ours
    assert any(keys[-1] == "deployerFee" for keys in ours)


def test_snapshot_orders_have_the_recorded_keys(test_data: Path) -> None:
    with gzip.open(next((test_data / "node").glob("l4_snapshot_*.json.gz"))) as file:
        _, ((_, (bids, _)),) = json.load(file)
    sim = Simulator(Settings(seed=5, start_time_ns=START_NS))
    sim.step()
    content = render_l4(
        sim.exchange.books.values(), height=1, include_users=True, include_triggers=False
    )
    _, coins = json.loads(content)
    assert shape(coins[0][1][0][0]) == shape(bids[0])
