"""Whose sessions follow a topic: what is scarce upstream is shared between them."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.hub import Hub
from streaming.core.relay_session import RelaySession
from streaming.core.session import Session
from streaming.core.topic import Kind, Topic
from tests.core.relay_world import CATALOGUE, Lease, Socket
from tests.core.test_hub import Wishes

COINS = ("BTC", "ETH")
STEPS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(COINS), st.sampled_from("sux")))


@given(STEPS)
def test_the_tenants_of_a_topic_are_those_of_its_followers(steps) -> None:
    hub = Hub(Wishes())
    sessions = [
        (RelaySession if number % 2 else Session)(
            hub=hub,
            sink=Socket(1 << 20),
            lease=Lease(),
            catalogue=lambda: CATALOGUE,
            tenant_id=number % 4,
        )
        for number in range(6)
    ]
    for number, coin, step in steps:
        session = sessions[number]
        if session.is_closed:
            continue
        if step == "x":
            session.close(now_s=0.0)
            continue
        method = "subscribe" if step == "s" else "unsubscribe"
        frame = {"method": method, "subscription": {"type": "trades", "coin": coin}}
        if number % 2:
            frame |= {"id": COINS.index(coin)}
        session.receive(orjson.dumps(frame).decode(), now_s=0.0)
        for each in COINS:
            topic = Topic(Kind.TRADES, each)
            followers = {n % 4 for n, s in enumerate(sessions) if topic in s.topics}
            assert hub.tenants(topic.name) == tuple(sorted(followers - {0}))
