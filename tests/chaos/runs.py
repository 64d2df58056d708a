"""One run: customers follow, a fault strikes and ends, the oracle judges."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field

from tests.chaos.faults import Fault
from tests.support.oracle import Verdict
from tests.support.probe import Mode, Probe
from tests.support.rig import Rig

#: Promised for one of two killed, stopped, slowed or reset: the longest extra wait for an event.
MAX_EXTRA_MS = 500.0


@dataclass(frozen=True, slots=True)
class Size:
    """How many blocks of a run come before, during and after the fault: drawn between the two. How
    many customers follow, every second one in the relay dialect with `relay`; and of how many a
    storm is made."""

    before: tuple[int, int] = (2, 10)
    during: tuple[int, int] = (12, 25)
    after: tuple[int, int] = (3, 8)
    customers: int = 20
    crowd: int = 300
    relay: bool = False


QUICK = Size(before=(1, 4), during=(8, 14), after=(2, 4), customers=6, crowd=50, relay=True)


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


def strike(rig: Rig, fault: Fault, *, seed: int, size: Size) -> Outcome:
    """Run `fault` once, under customers who then leave."""
    rng = random.Random(f"{fault.name}:{seed}")
    try:
        if fault.is_of_edges:
            follow_through_front(rig, size.customers)
        else:
            # Only the relay dialect has a word for what is lost.
            every = 1 if fault.may_lose else 2
            follow(rig, size.customers, relay=fault.may_lose or size.relay, every=every)
        rig.wait_blocks(rng.randint(*size.before))
        heal = fault.begin(rig, rng)
        try:
            rig.wait_blocks(rng.randint(*size.during))
        finally:
            heal()
        until = rig.wait_blocks(rng.randint(*size.after))
        probes = list(rig.probes.all)
        rig.settle(probes, until=until)
        return conclude(
            rig, fault.name, seed=seed, probes=probes, until=until,
            closes=fault.closes, may_lose=fault.may_lose,
        )  # fmt: skip
    finally:
        rig.leave(*rig.probes.all)


def follow(rig: Rig, customers: int, *, relay: bool, every: int = 2) -> list[Probe]:
    """Customers of all edges who have had the first frame of every coin. With `relay`, `every` so
    many one speaks the relay dialect."""
    coins = rig.coins
    probes = [
        rig.follow(coins, edge=n % len(rig.edges), relay=relay and n % every == every - 1)
        for n in range(customers)
    ]
    rig.wait_for_first_frames(probes)
    return probes


def follow_through_front(rig: Rig, customers: int) -> None:
    """The same, for those who come back with their cursors, to whatever edge the front chooses."""
    coins = rig.coins
    rig.wait_for_first_frames(
        [rig.follow(coins, edge=None, relay=True, mode=Mode.RESUMER) for _ in range(customers)]
    )


def conclude(
    rig: Rig,
    fault: str,
    *,
    seed: int,
    probes: Sequence[Probe],
    until: int,
    lost: Sequence[tuple[int, int]] = (),
    closes: Collection[int | None] = (),
    may_lose: bool = False,
) -> Outcome:
    """The oracle's word on all of `probes` together; see `Fault` for the last two."""
    verdicts: list[tuple[Probe, Verdict]] = []
    problems: list[str] = []
    for number, probe in enumerate(probes):
        for coin, verdict in rig.judge(probe, until=until, lost=lost).items():
            verdicts.append((probe, verdict))
            if not (verdict.is_clean if may_lose else verdict.is_exact):
                told = {str(event["reason"]) for event in probe.events_of("gap")}
                problems.append(f"customer {number} {coin}: {explain(verdict)} {told or ''}")
        allowed = closes if probe.mode is Mode.RESUMER else ()
        if not {code for code, _ in probe.closes} <= set(allowed):
            problems.append(f"customer {number} lost its connection: {probe.closes}")
        problems += [f"customer {number}: {error}" for error in probe.errors]
    counts: dict[str, int] = {}
    for _, verdict in verdicts:
        for key, value in verdict.counts.items():
            counts[key] = counts.get(key, 0) + value
    # Of those who were there all the time: who was away, or reads slowly, is late by itself.
    steady = [verdict for probe, verdict in verdicts if not probe.closes]
    late = sorted(ns for verdict in steady for ns in verdict.lateness_ns) or [0]
    return Outcome(
        fault=fault,
        seed=seed,
        probes=len(probes),
        is_exact=not problems,
        counts=counts,
        extra_gap_ms=round(max((v.extra_gap_ms for v in steady), default=0.0), 1),
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
