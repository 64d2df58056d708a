"""Nodes compared: who lags, stalls or disagrees is marked, and stops nothing."""

from __future__ import annotations

from streaming.upstream.health import DISAGREE_S, LAG_BLOCKS, STALL_S, Health


def heard(health: Health, source: str, height: int, *, now_s: float) -> None:
    health.heard(source, height, now_s=now_s, block_age_s=0.3)


def test_a_node_is_lagging_behind_the_best_tip() -> None:
    health = Health()
    heard(health, "a", 1_000, now_s=0.0)
    heard(health, "b", 1_000 - LAG_BLOCKS, now_s=0.0)
    assert health.judge("b", now_s=0.0).marks == []
    heard(health, "a", 1_001, now_s=0.1)
    assert health.judge("b", now_s=0.1).marks == ["lagging"]
    assert health.judge("b", now_s=0.1).lag == LAG_BLOCKS + 1
    heard(health, "b", 1_001, now_s=0.2)
    assert health.judge("b", now_s=0.2).marks == []


def test_a_node_without_a_new_height_is_stalled() -> None:
    health = Health()
    heard(health, "a", 7, now_s=10.0)
    heard(health, "a", 7, now_s=11.9)  # not a new height
    assert health.judge("a", now_s=10.0 + STALL_S).marks == []
    assert health.judge("a", now_s=10.1 + STALL_S).marks == ["stalled"]
    assert health.judge("a", now_s=13.0).silent_s == 3.0


def test_a_node_that_never_spoke_is_stalled_after_the_same_time() -> None:
    health = Health()
    health.join("a", now_s=5.0)
    verdict = health.judge("a", now_s=5.0 + STALL_S)
    assert (verdict.marks, verdict.silent_s) == ([], None)
    assert health.judge("a", now_s=5.1 + STALL_S).marks == ["stalled"]
    assert health.judge("nobody", now_s=99.0).marks == []


def test_a_difference_marks_for_a_while() -> None:
    health = Health()
    heard(health, "a", 7, now_s=0.0)
    health.differed("a", now_s=0.0)
    assert health.judge("a", now_s=0.5).marks == ["disagreeing"]
    health.broke_promise("a", now_s=1.0)
    verdict = health.judge("a", now_s=1.0)
    assert (verdict.differing, verdict.breaches) == (2, 1)
    heard(health, "a", 8, now_s=DISAGREE_S)
    assert not health.judge("a", now_s=1.0 + DISAGREE_S).is_disagreeing


def test_the_healthiest_comes_first() -> None:
    health = Health()
    for source, height in (("lagging", 100), ("light", 200), ("heavy", 199), ("liar", 200)):
        heard(health, source, height, now_s=0.0)
    health.join("mute", now_s=0.0)
    health.differed("liar", now_s=0.0)
    names = ["mute", "liar", "lagging", "light", "heavy"]
    assert health.ranked(names, now_s=0.1, weights={"heavy": 5}) == [
        "heavy", "light", "liar", "lagging", "mute",
    ]  # fmt: skip
    health.leave("light")
    assert health.best_height == 200
