"""One of two nodes, gateways or workers is killed, stopped, slowed or cut off: no customer notices.

The longer form is `make chaos RUNS=n`.
"""

from __future__ import annotations

import pytest

from tests.chaos.faults import CONTROL, ONE_OF_TWO, Fault
from tests.chaos.runs import QUICK, strike
from tests.support.rig import Rig

#: The faults that the promise names, three runs each; the others once.
PROMISED = (
    "kill9-node",
    "kill9-gateway",
    "kill9-worker",
    "stop-node",
    "delay-node",
    "reset-gateway",
)
RUNS = 3
ENDED_MS = 5_000.0


@pytest.mark.parametrize("fault", [CONTROL, *ONE_OF_TWO.values()], ids=lambda fault: fault.name)
def test_no_customer_notices(rig: Rig, fault: Fault) -> None:
    if fault.needs_gateways and not rig.topology.has_gateways:
        pytest.skip("this relay has no HL Gateway")
    for seed in range(RUNS if fault.name in PROMISED else 1):
        outcome = strike(rig, fault, seed=seed, size=QUICK)
        rig.make_whole()
        again = f"again: make chaos RUNS=1 FAULT={fault.name} SEED={seed} ARGS=--quick"
        assert outcome.is_exact, (again, outcome.problems)
        assert outcome.counts["expected"] > 0
        # How long it took is measured on a quiet machine (`make chaos`); here, that it ended.
        assert outcome.extra_gap_ms < ENDED_MS, (again, outcome)
