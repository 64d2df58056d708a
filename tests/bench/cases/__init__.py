"""What is measured. Each case takes one subject at a time."""

from __future__ import annotations

from tests.bench.cases import connect, fanout, hop, idle, resume, worker
from tests.bench.cases.contract import Case

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        fanout.Fanout(),
        hop.Hop(),
        hop.Hop(has_gateway=True),
        resume.Resume(),
        connect.Connect(),
        idle.Idle(),
        worker.Worker(),
    )
}
