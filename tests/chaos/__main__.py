"""`make chaos RUNS=n [FAULT=name] [SEED=s]`: strike a whole relay again and again.

Every run is one line of `var/chaos.jsonl`; at the end all that the file holds is summed up. By the
rule of three, n runs without a failure bound its rate below 3/n, at 95 %.
"""

from __future__ import annotations

from tests.support.environment import VAR  # first: it cleans the environment

import argparse  # isort: skip
import json  # isort: skip
import random  # isort: skip
import subprocess  # isort: skip
import sys  # isort: skip
import time  # isort: skip
from collections import defaultdict  # isort: skip
from dataclasses import replace  # isort: skip
from pathlib import Path  # isort: skip

from tests.chaos.edge_faults import of_edges  # isort: skip
from tests.chaos.faults import CONTROL, ONE_OF_TWO, Fault  # isort: skip
from tests.chaos.runs import MAX_EXTRA_MS, QUICK, Outcome, Size, strike  # isort: skip
from tests.support.parts import ROOT  # isort: skip
from tests.support.rig import Rig, Topology, clean  # isort: skip

RECORD = ROOT / "var" / "chaos.jsonl"
#: Then everything starts anew: the chain's files have grown by some 100 MB.
RUNS_PER_RIG = 40


def main() -> int:
    """Run, record, sum up; 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.split("\n\n")[0])
    known = {CONTROL.name: CONTROL, **ONE_OF_TWO, **of_edges(crowd=Size.crowd)}
    parser.add_argument("--runs", type=int, default=3, help="of each fault")
    parser.add_argument("--fault", choices=sorted(known), action="append")
    parser.add_argument("--seed", type=int, help="of the first run; each further one adds 1")
    parser.add_argument("--customers", type=int)
    parser.add_argument("--quick", action="store_true", help="as in `make test`: smaller, shorter")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--no-gateways", action="store_true", help="read the nodes' files directly")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    size = replace(size, customers=options.customers or size.customers)
    known |= of_edges(crowd=size.crowd)
    topology = Topology(gateways=False if options.no_gateways else None, edges=2)
    faults = [known[name] for name in options.fault or known]
    faults = [f for f in faults if topology.has_gateways or not f.needs_gateways]
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    todo = [(fault, seed + number) for number in range(options.runs) for fault in faults]
    failed = 0
    while todo:
        batch, todo = todo[:RUNS_PER_RIG], todo[RUNS_PER_RIG:]
        var = clean(VAR / "chaos")
        with Rig(var, topology) as rig:
            for fault, its_seed in batch:
                outcome = run(rig, fault, seed=its_seed, size=size)
                record(options.record, outcome)
                failed += not outcome.is_exact
    print(summary(options.record))
    return 1 if failed else 0


def run(rig: Rig, fault: Fault, *, seed: int, size: Size) -> Outcome:
    """One run, told in a line."""
    began_s = time.monotonic()
    try:
        outcome = strike(rig, fault, seed=seed, size=size)
        rig.make_whole()
    except (RuntimeError, TimeoutError) as error:
        outcome = Outcome(
            fault=fault.name, seed=seed, probes=size.customers, is_exact=False, counts={},
            extra_gap_ms=0.0, lateness_ms={}, gateways=rig.topology.has_gateways,
            problems=[str(error)],
        )  # fmt: skip
        rig.make_whole()
    word = "exact" if outcome.is_exact else "FAILED"
    print(
        f"{fault.name:<18} seed {seed:<8} {word:<7} extra gap {outcome.extra_gap_ms:6.1f} ms"
        f"  lateness {outcome.lateness_ms}  {time.monotonic() - began_s:4.1f} s"
        f"   again: {again(fault, seed=seed, size=size)}",
        flush=True,
    )
    for problem in outcome.problems[:10]:
        print(f"    {problem}", flush=True)
    return outcome


def again(fault: Fault, *, seed: int, size: Size) -> str:
    """The command for the same run."""
    words = f"make chaos RUNS=1 FAULT={fault.name} SEED={seed}"
    usual = QUICK if size.crowd == QUICK.crowd else Size()
    more = ["--quick"] if usual is QUICK else []
    more += [f"--customers {size.customers}"] if size.customers != usual.customers else []
    return words + (f' ARGS="{" ".join(more)}"' if more else "")


def record(path: Path, outcome: Outcome) -> None:
    """Append the run to the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = outcome.as_dict() | {"commit": commit(), "time": int(time.time())}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def commit() -> str:
    """The code that ran."""
    git = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def summary(path: Path) -> str:
    """One line a fault over all recorded runs."""
    rows: dict[str, list[dict[str, object]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[row["fault"]].append(row)
    lines = [f"{'fault':<20}{'n':>5}{'failed':>8}{'bound':>9}{'extra gap ms p50':>18}{'max':>9}"]
    for fault, of_it in sorted(rows.items()):
        gaps = sorted(float(str(row["extra_gap_ms"])) for row in of_it)
        failed = sum(not row["is_exact"] for row in of_it)
        bound = f"{300 / len(of_it):.1f} %" if not failed else "-"
        late = "  over the promise" if fault in ONE_OF_TWO and gaps[-1] > MAX_EXTRA_MS else ""
        lines.append(
            f"{fault:<20}{len(of_it):>5}{failed:>8}{bound:>9}"
            f"{gaps[len(gaps) // 2]:>18.1f}{gaps[-1]:>9.1f}{late}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
