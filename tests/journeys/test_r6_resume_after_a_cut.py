"""A customer cut off at any byte comes back with the last cursor: nothing missing, nothing twice.

Over a real socket; the state machine of the same law runs on the pure hub in `tests/core`.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos.runs import conclude
from tests.support.chaosproxy import ChaosProxy, End
from tests.support.probe import Mode
from tests.support.rig import Rig

CUTS = 5
#: A frame of trades is 0.3 to 10 KB: the cut falls into the handshake, a replay or a live frame.
CUT_BYTES = (40, 12_000)


@pytest.mark.parametrize("seed", range(3))
def test_cut_at_random_bytes_and_resumed(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    edge = rng.randrange(len(rig.edges))
    with ChaosProxy(rig.edge_ports[edge]) as proxy:
        customers = [
            rig.follow(rig.coins, port=proxy.port, relay=True, mode=Mode.RESUMER) for _ in range(2)
        ]
        rig.probes.wait_for(
            lambda: all(c.trades[coin] for c in customers for coin in rig.coins),
            what="first frames",
        )
        for _ in range(CUTS):
            cuts = proxy.ended
            proxy.set(
                cut_after=rng.randint(*CUT_BYTES), cut_how=rng.choice(list(End)), refuses=False
            )
            proxy.cut(rng.choice(list(End)))
            rig.probes.wait_for(
                lambda least=cuts + 4: proxy.ended >= least, what="cuts", deadline_s=30.0
            )
            # Away for a while, so that there is something to be made up for.
            proxy.set(refuses=True)
            proxy.cut()
            rig.wait_blocks(rng.randint(1, 6))
        proxy.heal()
        until = rig.settle(customers, until=rig.wait_blocks(5))
        for customer in customers:
            assert customer.connections > CUTS
            assert not customer.events_of("resumeFailed")
            customer.closes.clear()  # they were meant
        outcome = conclude(rig, "cut", seed=seed, probes=customers, until=until)
        rig.leave(*customers)
    assert outcome.is_exact, (seed, outcome.problems)
    assert any(frame.is_replay for customer in customers for frame in customer.frames)


def test_resumed_at_another_edge(rig: Rig) -> None:
    customer = rig.follow(rig.coins, edge=0, relay=True, mode=Mode.RESUMER)
    rig.probes.wait_for(lambda: all(customer.trades[coin] for coin in rig.coins), what="frames")
    rig.wait_blocks(5)
    customer.url = rig.url(edge=1, relay=True)
    rig.edges[0].kill()
    until = rig.settle([customer], until=rig.wait_blocks(10))
    customer.closes.clear()
    outcome = conclude(rig, "other-edge", seed=0, probes=[customer], until=until)
    assert outcome.is_exact, outcome.problems
    assert customer.connections == 2
