"""What can happen to a relay, as a table: how each fault begins and how it ends. Those of the edge
are in `edge_faults`.

The victim is drawn with the run's own random numbers, so a seed names the whole run.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.chaosproxy import End
from tests.support.parts import Part
from tests.support.rig import Rig

#: Ends the fault. What was killed is started again. Raises RuntimeError or TimeoutError when what
#: was struck did not end as promised.
Heal = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` strikes, and returns what ends it. Customers it brings with it are judged with the
    others, unless they have left when it is over."""

    name: str
    begin: Callable[[Rig, random.Random], Heal]
    needs_gateways: bool = False
    #: All customers come through the front, and come back with their cursors.
    is_of_edges: bool = False
    #: How the connections of those who come back may end; None is without a close frame.
    closes: frozenset[int | None] = frozenset()
    #: What is lost, is told.
    may_lose: bool = False


def _nodes(rig: Rig) -> list[Part]:
    return [node.part for node in rig.pair.all]


def _gateways(rig: Rig) -> list[Part]:
    return rig.gateways


def _workers(rig: Rig) -> list[Part]:
    return rig.workers


def _kill(parts: Callable[[Rig], list[Part]]) -> Callable[[Rig, random.Random], Heal]:
    def begin(rig: Rig, rng: random.Random) -> Heal:
        part = rng.choice(parts(rig))
        part.kill()
        return part.start

    return begin


def _freeze(parts: Callable[[Rig], list[Part]]) -> Callable[[Rig, random.Random], Heal]:
    def begin(rig: Rig, rng: random.Random) -> Heal:
        part = rng.choice(parts(rig))
        part.freeze()
        return part.thaw

    return begin


def _order(do: str, heal: str = "heal", **fields: object) -> Callable[[Rig, random.Random], Heal]:
    def begin(rig: Rig, rng: random.Random) -> Heal:
        node = rng.choice(rig.pair.all)
        node.order(do, **fields)
        return lambda: node.order(heal) and None

    return begin


def _miss_blocks(rig: Rig, rng: random.Random) -> Heal:
    node = rng.choice(rig.pair.all)
    node.order("restart_gap", blocks=rng.randint(1, 12))
    return lambda: None


def _drop_on_one(rig: Rig, rng: random.Random) -> Heal:
    node = rng.choice(rig.pair.all)
    first = rig.height + rng.randint(2, 6)
    node.order("drop", first=first, last=first + rng.randint(0, 5))
    return lambda: None


def _reset_links(rig: Rig, rng: random.Random) -> Heal:
    proxy = rng.choice(rig.proxies)
    proxy.cut(rng.choice(list(End)))
    return lambda: None


def _swallow_links(rig: Rig, rng: random.Random) -> Heal:
    proxy = rng.choice(rig.proxies)
    proxy.set(is_blackhole=True)

    def heal() -> None:
        proxy.heal()
        # What was swallowed would leave a hole in the middle of a stream; real networks end it.
        proxy.cut()

    return heal


#: One of two is struck: no customer may notice.
ONE_OF_TWO = {
    fault.name: fault
    for fault in (
        Fault("kill9-node", _kill(_nodes)),
        Fault("stop-node", _freeze(_nodes)),
        Fault("delay-node", _order("delay", ms=500)),
        Fault("lag-node", _order("lag", blocks=20)),
        Fault("stall-node", _order("stall", "resume")),
        Fault("torn-node", _order("torn", ms=15)),
        Fault("rotate-node", _order("rotate")),
        Fault("truncate-node", _order("truncate")),
        Fault("restart-node", _miss_blocks),
        Fault("drop-node", _drop_on_one),
        Fault("kill9-worker", _kill(_workers)),
        Fault("stop-worker", _freeze(_workers)),
        Fault("kill9-gateway", _kill(_gateways), needs_gateways=True),
        Fault("stop-gateway", _freeze(_gateways), needs_gateways=True),
        Fault("reset-gateway", _reset_links, needs_gateways=True),
        Fault("blackhole-gateway", _swallow_links, needs_gateways=True),
    )
}
#: Nothing happens: what the others are compared with.
CONTROL = Fault("control", lambda rig, rng: lambda: None)
