"""What happens at the edge, to it or to one customer, harms no other; who lost a connection comes
back and has everything, once, or is told.

The longer form is `make chaos RUNS=n`.
"""

from __future__ import annotations

import pytest

from tests.chaos.edge_faults import of_edges
from tests.chaos.faults import Fault
from tests.chaos.runs import QUICK, strike
from tests.conftest import skip
from tests.support.rig import Rig
from tests.support.services import Missing

FAULTS = of_edges(crowd=QUICK.crowd).values()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nobody_loses_anything_in_silence(rig: Rig, fault: Fault) -> None:
    try:
        outcome = strike(rig, fault, seed=0, size=QUICK)
    except Missing as missing:
        skip(str(missing))
    again = f"again: make chaos RUNS=1 FAULT={fault.name} SEED=0 ARGS=--quick"
    assert outcome.is_exact, (again, outcome.problems)
    assert outcome.counts["expected"] > 0
