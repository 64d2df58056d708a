"""No node writes any more: customers are told within 2 s, keep their sockets, and recover."""

from __future__ import annotations

from tests.chaos.runs import conclude, follow
from tests.support.rig import Rig, until_true

#: 2 s from the last block, by the promise; the clock of the test begins up to a block earlier.
STALE_WITHIN_S = 2.0 + 0.2
MAX_AGE_MS = 1_000


def test_stale_is_said_and_ends_by_itself(rig: Rig) -> None:
    probes = follow(rig, 4, relay=True)
    watchers = [
        rig.follow(["BTC"], edge=edge, relay=True, options={"maxAgeMs": MAX_AGE_MS})
        for edge in range(len(rig.edges))
    ]
    rig.probes.wait_for(lambda: all(w.trades["BTC"] for w in watchers), what="first frames")
    rig.pair.simulator.freeze()
    try:
        took_s = rig.probes.wait_for(
            lambda: all(w.events_of("stale") for w in watchers),
            what="stale",
            deadline_s=STALE_WITHIN_S,
        )
        assert took_s < STALE_WITHIN_S
        until_true(lambda: rig.get("/readyz") == 503, what="not ready", deadline_s=5.0)
        assert rig.get("/livez") == 200
        frames = [len(probe.frames) for probe in probes]
        assert not any(probe.closes for probe in (*probes, *watchers))
        assert not any(event for w in watchers for event in w.events_of("fresh"))
    finally:
        rig.pair.simulator.thaw()
    rig.probes.wait_for(lambda: all(w.events_of("fresh") for w in watchers), what="fresh")
    until_true(rig.is_whole, what="a whole relay", deadline_s=20.0)
    until_true(lambda: rig.get("/readyz") == 200, what="ready", deadline_s=5.0)
    until = rig.settle([*probes, *watchers], until=rig.wait_blocks(3))
    assert all(len(probe.frames) > count for probe, count in zip(probes, frames, strict=True))
    outcome = conclude(rig, "all-gone", seed=0, probes=[*probes, *watchers], until=until)
    assert outcome.is_exact, outcome.problems
