"""Blocks that no node has: customers of the relay dialect are told, once, in order, soon."""

from __future__ import annotations

import random

import pytest

from tests.chaos.runs import explain, follow
from tests.support.oracle import Got, Marker
from tests.support.rig import Rig

TOLD_WITHIN_MS = 1_000.0


@pytest.mark.parametrize("seed", range(3))
def test_the_same_blocks_lost_on_both_are_one_gap(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    probes = follow(rig, 4, relay=True)
    first = rig.height + rng.randint(10, 14)
    last = first + rng.randint(0, 9)
    for node in rig.pair.all:
        node.order("drop", first=first, last=last)
    rig.wait_blocks(last + 5 - rig.height)
    until = rig.settle(probes)
    lost = [(first, last)]
    for probe in probes:
        for coin, verdict in rig.judge(probe, until=until, lost=lost).items():
            events = rig.pair.pristine.trades[coin]
            hole = [e for e in events if first <= e.height <= last]
            if not probe.is_relay_dialect:
                # The official dialect has no words for it, and nothing else may be missing.
                assert verdict.missing == hole, (seed, coin, explain(verdict))
                assert not verdict.duplicate
                assert not verdict.reordered
                continue
            assert verdict.is_clean, (seed, coin, explain(verdict), verdict.markers)
            assert verdict.explained == hole, (seed, coin, explain(verdict))
            assert len(verdict.markers) == 1, (seed, coin, verdict.markers)
            assert told_after_ms(probe.trades[coin], rig.made_ns(last + 1)) < TOLD_WITHIN_MS


def told_after_ms(records: list[Got | Marker], behind_ns: int) -> float:
    """How long after the first block behind the hole was written the customer knew of it."""
    (marker,) = (record for record in records if isinstance(record, Marker))
    return (marker.at_ns - behind_ns) / 1e6
