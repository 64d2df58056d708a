"""What workers say → what is fresh."""

from __future__ import annotations

from gateway.operations.freshness import Look, Seen, files_of, looks_of, stopped_of

ALL = frozenset({"node_raw_book_diffs", "node_order_statuses", "node_fills", "misc_events"})


def node(name: str = "node0", **changed: object) -> Seen:
    values = {"is_public": False, "is_well": True, "age_ms": 300, "files": ALL} | changed
    return Seen(name=name, **values)  # type: ignore[arg-type]


def public(**changed: object) -> Seen:
    values = {"is_public": True, "is_well": True, "age_ms": None} | changed
    return Seen(name="public0", **values)  # type: ignore[arg-type]


def test_one_node_that_is_well_is_enough() -> None:
    looks = looks_of([node(), node("node1", is_well=False, age_ms=9_000)])
    assert looks["feed:books"] == looks["feed:trades"] == Look(True, 300)
    assert looks["upstream:node0"] == Look(True, 300)
    assert looks["upstream:node1"] == Look(False)


def test_two_workers_of_one_node_are_one_upstream() -> None:
    looks = looks_of([node(is_well=False), node(age_ms=250)])
    assert looks["upstream:node0"] == Look(True, 250)


def test_a_file_that_stopped_makes_its_feed_stale_and_no_other() -> None:
    looks = looks_of([node(stopped=frozenset({"node_fills"}))])
    assert not looks["feed:trades"].is_fresh
    assert looks["feed:books"].is_fresh


def test_books_without_a_checkpoint_are_not_fresh() -> None:
    looks = looks_of([node(has_books=False)])
    assert not looks["feed:books"].is_fresh
    assert looks["feed:trades"].is_fresh


def test_the_public_feed_stands_in_without_an_age() -> None:
    looks = looks_of([node(is_well=False), public()])
    assert looks["feed:books"] == Look(True)
    assert not looks["upstream:node0"].is_fresh
    assert not looks_of([node(is_well=False), public(is_well=False)])["feed:books"].is_fresh


def test_what_nobody_could_bring_is_not_judged() -> None:
    assert "feed:accounts" not in looks_of([node(files=frozenset({"node_fills"}))])
    assert looks_of([public()])["feed:accounts"].is_fresh


def test_without_any_worker_all_that_was_known_is_stale() -> None:
    assert looks_of([], ["feed:books", "upstream:node0"]) == {
        "feed:books": Look(False),
        "upstream:node0": Look(False),
    }


def test_files_of_a_worker_s_state() -> None:
    kinds = {"node_fills": {"height": 7}, "replica_cmds": {"height": 0}, "odd": 3}
    assert files_of({"kinds": kinds}) == {"node_fills"}
    assert files_of({"gateway": {"kinds": kinds}}) == {"node_fills"}
    assert files_of({}) == frozenset()
    assert stopped_of(["stalled", "stopped node_fills"]) == {"node_fills"}
