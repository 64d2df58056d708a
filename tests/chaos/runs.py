"""One run: customers follow, a fault strikes and ends, the oracle judges."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.chaos.faults import Fault
from tests.support.oracle import Verdict
from tests.support.probe import Probe
from tests.support.rig import Rig

#: Promised for one of two killed, stopped, slowed or reset: the longest extra wait for an event.
MAX_EXTRA_MS = 500.0


@dataclass(frozen=True, slots=True)
class Length:
    """How many blocks of a run come before, during and after the fault: drawn between the two."""

    before: tuple[int, int] = (2, 10)
    during: tuple[int, int] = (12, 25)
    after: tuple[int, int] = (3, 8)


QUICK = Length(before=(1, 4), during=(8, 14), after=(2, 4))


@dataclass(slots=True)
class Outcome:
    """What one run showed. `counts` are summed over all customers and coins."""

    fault: str
    seed: int
    probes: int
    is_exact: bool
    counts: dict[str, int]
    extra_gap_ms: float
    lateness_ms: dict[str, float]
    gateways: bool
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """For one line of JSON."""
        return asdict(self)


def strike(
    rig: Rig,
    fault: Fault,
    *,
    seed: int,
    customers: int = 6,
    length: Length | None = None,
    relay: bool = False,
) -> Outcome:
    """Run `fault` once under `customers`; every second one speaks the relay dialect with
    `relay`."""
    rng = random.Random(f"{fault.name}:{seed}")
    length = length or Length()
    probes = follow(rig, customers, relay=relay)
    try:
        rig.wait_blocks(rng.randint(*length.before))
        heal = fault.begin(rig, rng)
        try:
            rig.wait_blocks(rng.randint(*length.during))
        finally:
            heal()
        until = rig.wait_blocks(rng.randint(*length.after))
        rig.settle(probes, until=until)
        return conclude(rig, fault.name, seed=seed, probes=probes, until=until)
    finally:
        rig.leave(*probes)


def follow(rig: Rig, customers: int, *, relay: bool) -> list[Probe]:
    """Customers of all edges who have had the first frame of every coin."""
    coins = rig.coins
    probes = [
        rig.follow(coins, edge=n % len(rig.edges), relay=relay and n % 2 == 1)
        for n in range(customers)
    ]
    rig.probes.wait_for(
        lambda: all(probe.trades[coin] for probe in probes for coin in coins),
        what="first frames",
    )
    return probes


def conclude(
    rig: Rig,
    fault: str,
    *,
    seed: int,
    probes: Sequence[Probe],
    until: int,
    lost: Sequence[tuple[int, int]] = (),
) -> Outcome:
    """The oracle's word on all of `probes` together."""
    verdicts: list[tuple[str, Verdict]] = []
    problems: list[str] = []
    for number, probe in enumerate(probes):
        for coin, verdict in rig.judge(probe, until=until, lost=lost).items():
            verdicts.append((f"customer {number} {coin}", verdict))
        if probe.closes:
            problems.append(f"customer {number} lost its connection: {probe.closes}")
        problems += [f"customer {number}: {error}" for error in probe.errors]
    counts: dict[str, int] = {}
    for name, verdict in verdicts:
        for key, value in verdict.counts.items():
            counts[key] = counts.get(key, 0) + value
        if not verdict.is_exact:
            problems.append(f"{name}: {explain(verdict)}")
    late = sorted(ns for _, verdict in verdicts for ns in verdict.lateness_ns) or [0]
    return Outcome(
        fault=fault,
        seed=seed,
        probes=len(probes),
        is_exact=not problems,
        counts=counts,
        extra_gap_ms=round(max((v.extra_gap_ms for _, v in verdicts), default=0.0), 1),
        lateness_ms={
            name: round(late[min(len(late) - 1, int(len(late) * share))] / 1e6, 2)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        },
        gateways=rig.topology.has_gateways,
        problems=problems,
    )


def explain(verdict: Verdict) -> str:
    """What is wrong, with the first few places."""
    wrong = {name: count for name, count in verdict.counts.items() if count and name != "expected"}
    places = [event.height for event in (*verdict.missing, *verdict.explained)][:5]
    named = (*verdict.duplicate, *verdict.reordered, *verdict.corrupted, *verdict.unknown)
    return f"{wrong} of {verdict.expected}, at heights {places}, trades {list(named[:5])}"
