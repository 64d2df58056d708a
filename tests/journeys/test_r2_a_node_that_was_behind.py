"""A node that falls behind is marked; what it brings late is dropped, not sent again."""

from __future__ import annotations

from tests.chaos.runs import conclude, follow
from tests.support.rig import Rig, until_true

#: Marked within 2 s of being behind; the workers tell once a second, and two cores are shared.
MARKED_WITHIN_S = 2.0 + 1.0 + 1.0
#: Heights behind the best node from which on a node counts as lagging.
BEHIND = 30


def marks(rig: Rig) -> list[set[str]]:
    """What each worker holds against each node, in the nodes' order."""
    found = []
    for state in rig.worker_states():
        by_name = sorted(rig.marks(state).items())
        found.append([set(names) for _, names in by_name])
    return [set.union(*of_node) for of_node in zip(*found, strict=True)] if found else []


def test_a_stopped_node_is_marked_and_its_late_copies_are_dropped(rig: Rig) -> None:
    probes = follow(rig, 4, relay=True)
    node = rig.pair[0]
    node.part.freeze()
    rig.wait_blocks(BEHIND)
    until_true(
        lambda: bool(marks(rig)) and bool(marks(rig)[0] & {"lagging", "stalled"}),
        what="the stopped node's mark",
        deadline_s=MARKED_WITHIN_S,
    )
    assert not marks(rig)[1], "the healthy node is marked"
    node.part.thaw()
    until_true(rig.is_whole, what="the marks gone", deadline_s=20.0)
    until = rig.settle(probes, until=rig.wait_blocks(3))
    outcome = conclude(rig, "behind", seed=0, probes=probes, until=until)
    assert outcome.is_exact, outcome.problems


def test_a_lagging_node_is_marked_while_it_goes_on(rig: Rig) -> None:
    probes = follow(rig, 2, relay=True)
    rig.pair[1].order("lag", blocks=BEHIND + 15)
    rig.wait_blocks(BEHIND + 1)
    until_true(
        lambda: bool(marks(rig)) and "lagging" in marks(rig)[1],
        what="the lagging node's mark",
        deadline_s=MARKED_WITHIN_S,
    )
    rig.pair[1].order("heal")
    until_true(rig.is_whole, what="the mark gone", deadline_s=20.0)
    until = rig.settle(probes, until=rig.wait_blocks(3))
    outcome = conclude(rig, "lagging", seed=0, probes=probes, until=until)
    assert outcome.is_exact, outcome.problems
