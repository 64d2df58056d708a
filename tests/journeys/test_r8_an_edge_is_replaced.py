"""An edge is asked to end while customers trade on it; Redis goes and comes back: nobody loses
anything in silence.
"""

from __future__ import annotations

import signal

from tests.journeys.test_r7_processes_die import assert_exact_or_told, resumer
from tests.support.rig import DRAIN_S, Rig


def test_customers_are_told_when_they_go_and_lose_nothing(rig: Rig) -> None:
    customers = [resumer(rig) for _ in range(6)]
    edge = rig.edges[0]
    edge.signal(signal.SIGTERM)
    assert edge.process.wait(DRAIN_S + 10.0) == 0
    edge.start()
    rig.probes.wait_for(
        lambda: all(customer.connections > 1 for customer in customers), what="everybody back"
    )
    until = rig.settle(customers, until=rig.wait_blocks(5))
    for customer in customers:
        assert assert_exact_or_told(rig, customer, until=until) == 0, customer.events
        (told,) = customer.events_of("goingAway")
        assert 0 <= told["inMs"] <= DRAIN_S * 1000


def test_redis_is_restarted_and_sockets_stay(rig: Rig) -> None:
    customer, official = resumer(rig), rig.follow(rig.coins, edge=1)
    rig.probes.wait_for(
        lambda: all(official.trades[coin] for coin in rig.coins), what="first frames"
    )
    connections = customer.connections
    rig.bus.stop()
    rig.wait_blocks(10)
    rig.bring_redis_back()
    rig.make_whole()
    until = rig.settle([customer, official], until=rig.wait_blocks(10))
    assert_exact_or_told(rig, customer, until=until)
    assert customer.connections == connections, "the socket was closed"
    assert not official.closes
