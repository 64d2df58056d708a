"""What can happen to the edge: its processes, its Redis, and the customers at it themselves."""

from __future__ import annotations

import random
import uuid

from streaming.ws.close_codes import STALL_LIMIT_S, CloseCode
from tests.chaos.faults import Fault, Heal
from tests.chaos.hostile import Hostile
from tests.support.chaosproxy import ChaosProxy
from tests.support.probe import Mode, Probe
from tests.support.rig import DRAIN_S, Rig

#: Promised: a thousand who were cut at once are back and live.
STORM_S = 30.0
#: Promised: from the revocation to the last close.
REVOKED_S = 5.0
REVOKED_SOCKETS = 50
SLOW_BYTES_PER_S = 100
#: Beyond the limit itself: the edge looks once a second, and the machine is busy.
CUT_DEADLINE_S = STALL_LIMIT_S + 20.0
#: What a slow customer follows besides, because it is much.
MUCH = ({"type": "raw", "stream": "node_raw_book_diffs"}, {"type": "raw", "stream": "node_fills"})


def of_edges(*, crowd: int) -> dict[str, Fault]:
    """The faults by name; a storm is made of `crowd` customers."""
    faults = (
        Fault("kill9-edge", _kill, is_of_edges=True, closes=frozenset({None})),
        Fault("drain-edge", _drain, is_of_edges=True, closes=frozenset({CloseCode.GOING_AWAY})),
        Fault("restart-redis", _restart_redis, may_lose=True),
        Fault("flush-redis", _flush_redis, may_lose=True),
        Fault("slow-customer", _read_slowly, closes=frozenset({CloseCode.SLOW})),
        Fault("chatty-customer", _chat),
        Fault("storm", lambda rig, rng: _storm(rig, rng, crowd), closes=frozenset({None})),
        Fault("flood", _flood),
        Fault("revoke-key", _revoke),
    )
    return {fault.name: fault for fault in faults}


# --- processes ------------------------------------------------------------------------------------


def _kill(rig: Rig, rng: random.Random) -> Heal:
    edge = rng.choice(rig.edges)
    edge.kill()

    def heal() -> None:
        edge.start()
        _wait_for_returns(rig)

    return heal


def _drain(rig: Rig, rng: random.Random) -> Heal:
    edge = rng.choice(rig.edges)
    edge.process.terminate()

    def heal() -> None:
        code = edge.process.wait(DRAIN_S + CUT_DEADLINE_S)
        edge.start()
        if code:
            raise RuntimeError(f"{edge.name} ended with {code}:\n{edge.output[-3_000:]}")
        _wait_for_returns(rig)

    return heal


def _wait_for_returns(rig: Rig) -> None:
    # The front gives each edge its share: a run in which nobody was struck would prove nothing.
    rig.probes.wait_for(
        lambda: any(probe.connections > 1 for probe in rig.probes.all), what="anybody back"
    )


def _restart_redis(rig: Rig, rng: random.Random) -> Heal:
    rig.bus.stop()
    return rig.bring_redis_back


def _flush_redis(rig: Rig, rng: random.Random) -> Heal:
    rig.redis.flushall()
    return lambda: None


# --- customers ------------------------------------------------------------------------------------


def _read_slowly(rig: Rig, rng: random.Random) -> Heal:
    """One who reads very slowly, is cut, and then goes on from the cursors that it was told."""
    edge = rng.randrange(len(rig.edges))
    cuts = rig.closed(CloseCode.SLOW, edge=edge)
    proxy = ChaosProxy(rig.edge_ports[edge]).__enter__()
    slow = rig.follow(rig.coins, *MUCH, port=proxy.port, relay=True, mode=Mode.RESUMER)
    rig.wait_for_first_frames([slow])
    proxy.set(bytes_per_s=SLOW_BYTES_PER_S)
    slow.url = rig.url(edge=rng.randrange(len(rig.edges)), relay=True)

    def heal() -> None:
        try:
            _wait_for_cut(rig, edge, beyond=cuts)
            # Who is cut has time to read what is on its way, and the reason behind it.
            proxy.heal()
            rig.probes.wait_for(lambda: slow.connections > 1, what="the slow customer back")
        finally:
            proxy.__exit__()
        told = [event["id"] for event in slow.events_of("slow")]
        _expect(slow, CloseCode.SLOW)
        if sorted(told) != [number + 1 for number in range(len(slow.subscriptions))]:
            raise RuntimeError(f"the slow customer was told the cursors of {told}")

    return heal


def _chat(rig: Rig, rng: random.Random) -> Heal:
    """One who reads nothing, and goes on sending what is quoted back."""
    edge = rng.randrange(len(rig.edges))
    cuts = rig.closed(CloseCode.SLOW, edge=edge)
    chatty = rig.follow(rig.coins, edge=edge, mode=Mode.CHATTY)

    def heal() -> None:
        _wait_for_cut(rig, edge, beyond=cuts)
        chatty.is_awake = True
        rig.probes.wait_for(lambda: bool(chatty.closes), what="the end of the chatty customer")
        _expect(chatty, CloseCode.SLOW)
        rig.leave(chatty)

    return heal


def _wait_for_cut(rig: Rig, edge: int, *, beyond: int) -> None:
    rig.probes.wait_for(
        lambda: rig.closed(CloseCode.SLOW, edge=edge) > beyond,
        what="a close for being slow",
        deadline_s=CUT_DEADLINE_S,
    )


def _expect(probe: Probe, code: CloseCode) -> None:
    if [closed for closed, _ in probe.closes] != [code]:
        raise RuntimeError(f"closed with {probe.closes}, not {code}")


def _storm(rig: Rig, rng: random.Random, count: int) -> Heal:
    """Many are cut at once and come back at once, each to any edge, with its cursor."""
    edges = range(len(rig.edges))
    crowd = [
        rig.follow([rng.choice(rig.coins)], edge=rng.choice(edges), relay=True, mode=Mode.RESUMER)
        for _ in range(count)
    ]
    rig.wait_for_first_frames(crowd)
    for probe in crowd:
        probe.url = rig.url(edge=rng.choice(edges), relay=True)
    rig.probes.cut(*crowd)
    return lambda: _wait_for_all(rig, crowd)


def _wait_for_all(rig: Rig, crowd: list[Probe]) -> None:
    rig.probes.wait_for(
        lambda: all(probe.connections > 1 for probe in crowd),
        what="everybody back",
        deadline_s=STORM_S,
    )


def _flood(rig: Rig, rng: random.Random) -> Heal:
    """Garbage of every kind at all edges; each is refused as documented."""
    hostile = Hostile(rig.edge_ports, rig.api_key, rng)

    def heal() -> None:
        if problems := hostile.join():
            raise RuntimeError("; ".join(problems))

    return heal


def _revoke(rig: Rig, rng: random.Random) -> Heal:
    """A key with many open sockets is revoked by whoever may."""
    name = uuid.uuid4().hex
    key = rig.shell(
        "from tenants import services; from tenants.models import Tenant;"
        f"print(services.issue_key(tenant=Tenant.objects.get(slug='demo'), name='{name}').raw)"
    )
    coin = rng.choice(rig.coins)
    sockets = [
        rig.follow([coin], edge=n % len(rig.edges), relay=rng.random() < 0.5, api_key=key)
        for n in range(REVOKED_SOCKETS)
    ]
    rig.wait_for_first_frames(sockets)
    committed_s = float(
        rig.shell(
            "import time; from tenants import services; from tenants.models import APIKey;"
            f"services.revoke_key(APIKey.objects.get(name='{name}')); print(time.time())"
        )
    )

    def heal() -> None:
        rig.probes.wait_for(
            lambda: all(probe.closes for probe in sockets), what="the end of a revoked key"
        )
        for probe in sockets:
            _expect(probe, CloseCode.POLICY)
        last_s = max(probe.closed_s for probe in sockets)
        if last_s - committed_s > REVOKED_S:
            raise RuntimeError(f"closed {last_s - committed_s:.1f} s after the revocation")
        late = rig.follow([coin], api_key=key)
        rig.probes.wait_for(lambda: bool(late.closes), what="a refusal")
        if "401" not in late.closes[0][1]:
            raise RuntimeError(f"a revoked key was let in: {late.closes}")
        rig.leave(late, *sockets)

    return heal
