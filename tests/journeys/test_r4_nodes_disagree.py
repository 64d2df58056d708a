"""Two nodes tell two stories of one block: one of them is forwarded, and operators know."""

from __future__ import annotations

import pytest

from tests.chaos.runs import follow
from tests.support.oracle import Got
from tests.support.rig import Rig, until_true

#: An alarm within 1 s; the workers tell once a second.
ALARM_WITHIN_S = 1.0 + 1.0 + 1.0


@pytest.mark.parametrize("liar", [0, 1])
def test_one_value_is_forwarded_and_the_alarm_rings(rig: Rig, liar: int) -> None:
    probes = follow(rig, 4, relay=True)
    node = rig.pair[liar]
    told = len(node.order("state")["lied"])
    differing = total_differing(rig)
    node.order("lie", height=rig.height + 5, coin="BTC")
    until_true(
        lambda: len(node.order("state")["lied"]) > told, what="a planted lie", deadline_s=20.0
    )
    lie = node.order("state")["lied"][-1]
    rig.lies.add(str(lie["tid"]))
    until_true(
        lambda: total_differing(rig) > differing, what="the alarm", deadline_s=ALARM_WITHIN_S
    )
    assert any("disagreeing" in source["marks"] for source in sources(rig))
    until = rig.settle(probes, until=max(lie["height"], rig.height))
    values = set()
    for probe in probes:
        for coin, verdict in rig.judge(probe, until=until).items():
            assert not verdict.missing, (coin, verdict.counts)
            assert not verdict.duplicate, (coin, verdict.counts)
            assert not verdict.reordered, (coin, verdict.counts)
            assert not verdict.corrupted, (coin, verdict.counts)
        values.add(
            tuple(
                r.digest
                for r in probe.trades["BTC"]
                if isinstance(r, Got) and r.key == str(lie["tid"])
            )
        )
    assert len(values) == 1, f"customers got different values: {values}"
    assert len(values.pop()) == 1


def sources(rig: Rig) -> list[dict]:  # type: ignore[type-arg]
    """Every node as every worker sees it."""
    states = (s for state in rig.worker_states() for s in state["sources"].values())
    return [source for source in states if source["kind"] == "node"]


def total_differing(rig: Rig) -> int:
    """Blocks in which nodes were seen to differ, over all workers."""
    return sum(source["differing"] for source in sources(rig))
