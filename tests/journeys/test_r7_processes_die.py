"""kill -9 of an edge, of both workers, of Redis with all that was in it: what customers get after
that is exact, or they are told; never a wrong continuation.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos.runs import explain
from tests.support.probe import Mode, Probe
from tests.support.rig import Rig


def resumer(rig: Rig, *, edge: int = 0) -> Probe:
    """A customer who comes back after every cut, with first frames of all coins had."""
    probe = rig.follow(rig.coins, edge=edge, relay=True, mode=Mode.RESUMER)
    rig.probes.wait_for(lambda: all(probe.trades[coin] for coin in rig.coins), what="first frames")
    return probe


def assert_exact_or_told(rig: Rig, probe: Probe, *, until: int) -> int:
    """Nothing wrong that was not told; returns how many events were told to be lost."""
    told = 0
    for coin, verdict in rig.judge(probe, until=until).items():
        wrong = {
            "missing": verdict.missing,
            "duplicate": verdict.duplicate,
            "reordered": verdict.reordered,
            "corrupted": verdict.corrupted,
            "unknown": verdict.unknown,
        }
        assert not any(wrong.values()), (coin, explain(verdict), probe.events)
        told += len(verdict.explained)
    return told


@pytest.mark.parametrize("seed", range(3))
def test_an_edge_is_killed_and_comes_back(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    customer = resumer(rig)
    rig.wait_blocks(rng.randint(1, 9))
    rig.edges[0].kill()
    rig.wait_blocks(rng.randint(0, 6))
    rig.edges[0].start()
    rig.probes.wait_for(lambda: customer.connections > 1, what="the customer back")
    until = rig.settle([customer], until=rig.wait_blocks(5))
    assert assert_exact_or_told(rig, customer, until=until) == 0, customer.events
    assert len({frame.epoch for frame in customer.frames}) == 1


def test_both_workers_are_killed(rig: Rig) -> None:
    customer, other = resumer(rig), rig.follow(rig.coins, edge=1)
    rig.probes.wait_for(lambda: all(other.trades[coin] for coin in rig.coins), what="first frames")
    for worker in rig.workers:
        worker.kill()
    rig.wait_blocks(5)
    for worker in rig.workers:
        worker.start()
    rig.make_whole()
    until = rig.settle([customer, other], until=rig.wait_blocks(5))
    assert_exact_or_told(rig, customer, until=until)
    assert not other.closes, "an official customer's socket was closed"
    assert len({frame.epoch for frame in customer.frames}) == 1, "the log was there all the time"


def test_redis_is_flushed(rig: Rig) -> None:
    customer, gone = resumer(rig), resumer(rig, edge=1)
    before = {frame.epoch for frame in customer.frames}
    rig.wait_blocks(3)
    rig.probes.stop(gone)
    rig.redis.flushall()
    rig.make_whole()
    late = rig.follow(rig.coins, edge=1, relay=True, mode=Mode.RESUMER)
    rig.probes.stop(late)
    until = rig.settle([customer], until=rig.wait_blocks(10))
    assert_exact_or_told(rig, customer, until=until)
    after = {frame.epoch for frame in customer.frames} - before
    assert len(after) == 1, f"one new epoch, not {after}"
    assert {event["epoch"] for event in customer.events_of("resync")} >= after


def test_a_cursor_from_before_a_flush_is_answered_truly(rig: Rig) -> None:
    customer = resumer(rig)
    rig.wait_blocks(3)
    edge = rig.edges[0]
    edge.freeze()  # the customer's last cursor stays behind what Redis will have forgotten
    rig.wait_blocks(5)
    rig.redis.flushall()
    edge.kill()
    edge.start()
    rig.probes.wait_for(lambda: customer.connections > 1, what="the customer back")
    rig.make_whole()
    until = rig.settle([customer], until=rig.wait_blocks(10))
    # The last 30 trades, which open a subscription, may hold all that was missed.
    told = assert_exact_or_told(rig, customer, until=until)
    assert told > 0 or customer.events_of("resumeFailed")
