"""What is measured. Each case takes one subject at a time."""

from __future__ import annotations

from tests.bench import payload
from tests.bench.cases import (
    connect,
    crowd,
    fanout,
    grpc,
    hop,
    http,
    idle,
    market,
    mixed,
    resume,
    share,
    worker,
)
from tests.bench.cases.contract import Case

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        fanout.Fanout(),
        fanout.Fanout(size=payload.SMALL),
        hop.Hop(),
        hop.Hop(clients=1_000),
        hop.Hop(has_gateway=True),
        resume.Resume(),
        connect.Connect(),
        idle.Idle(),
        idle.Idle(topics=20),
        crowd.Crowd(),
        mixed.Mixed(),
        share.Share(),
        market.Market(),
        worker.Worker(),
        *http.cases(),
        grpc.GrpcFanout(),
        grpc.GrpcHop(),
    )
}
