"""The hop's node: a checkpoint and the diffs after it give the next checkpoint."""

from __future__ import annotations

import json
from typing import Any

from tests.bench.cases.hop import joined
from tests.bench.node_writer import Node

BLOCK_NS = 1_778_002_753_024_084_407


def test_a_checkpoint_and_the_diffs_after_it_give_the_next_checkpoint() -> None:
    node = Node()
    height, [[_, sides]] = node.checkpoint()
    book = {order["oid"]: order["sz"] for side in sides for _, order in side}

    for number in range(1, 40):
        _, diffs, _ = node.block(block_ns=BLOCK_NS + number, written_ns=BLOCK_NS)
        line = json.loads(diffs)
        assert line["block_number"] == height + number
        assert len(line["events"]) == (37 if number > 1 else 19)
        for event in line["events"]:
            apply(book, event)

    later, [[_, sides]] = node.checkpoint()
    assert later == height + 39
    assert book == {order["oid"]: order["sz"] for side in sides for _, order in side}
    (best_bid, best_ask) = (float(side[0][1]["limitPx"]) for side in sides)
    assert best_bid < best_ask


def apply(book: dict[int, str], event: dict[str, Any]) -> None:
    match event["raw_book_diff"]:
        case "remove":
            del book[event["oid"]]
        case {"new": {"sz": size}}:
            assert event["oid"] not in book
            book[event["oid"]] = size
        case {"update": {"origSz": before, "newSz": size}}:
            assert book[event["oid"]] == before
            book[event["oid"]] = size
        case other:
            raise AssertionError(other)


def test_every_new_order_has_its_status_in_the_same_block() -> None:
    node = Node()
    _, diffs, statuses = node.block(block_ns=BLOCK_NS, written_ns=BLOCK_NS)
    added = {e["oid"] for e in json.loads(diffs)["events"] if "new" in e["raw_book_diff"]}
    opened = {e["order"]["oid"] for e in json.loads(statuses)["events"] if e["status"] == "open"}
    assert added == opened


def test_frames_are_joined_to_their_blocks_by_block_time() -> None:
    def book(time_ms: int) -> str:
        return json.dumps({"channel": "l2Book", "data": {"time": time_ms}}, separators=(",", ":"))

    lines = [
        f"5000000 {book(1)}",  # before the window
        f"12000000 {book(2)}",
        '13000000 {"channel":"error","data":"not ready"}',
        f"23500000 {book(3)}",
        f"30000000 {book(99)}",  # of no block written here: a snapshot
    ]
    stamps = {1: 4_000_000, 2: 10_000_000, 3: 21_000_000}
    assert list(joined(lines, stamps, from_ns=10_000_000)) == [2.0, 2.5]
