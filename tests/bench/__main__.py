"""`python -m tests.bench [--only case[:subject]]... [--seconds S]`: table and `var/bench.jsonl`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.bench import build, machine, private_redis
from tests.bench.cases import CASES
from tests.bench.cases.contract import Bench, Case
from tests.bench.load import LoadClient
from tests.bench.processes import Failed, Family, interrupts_as_exceptions
from tests.bench.report import Report
from tests.bench.subjects import SUBJECTS
from tests.bench.subjects.contract import NotHere, Stage, Subject

FOLDER = machine.ROOT / "var" / "bench"
RESULTS = machine.ROOT / "var" / "bench.jsonl"
#: Per rate or round. Everything together takes about five minutes with it.
SECONDS = 4.0
#: With steps of SECONDS nothing new is begun after this, so that the whole ends within ten minutes
#: even when every subject uses up its patience.
BUDGET_S = 480.0


def main() -> int:
    """Run what the command line asks for; 0 when everything that is here could be measured."""
    options = _options()
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = Report(path=RESULTS, commit=machine.commit())
    cores = machine.cores()
    machine.allow_many_files()
    _say(_header(cores, options.seconds))
    try:
        program = build.compiled(build.LOAD_CLIENT, FOLDER)
    except (build.NoCompiler, build.DoesNotCompile) as error:
        _say(f"bench: {error}")
        return 2
    # Databases, keys and node files live in a folder that is gone afterwards.
    with (
        interrupts_as_exceptions(),
        tempfile.TemporaryDirectory(prefix="relay-bench-") as temporary,
    ):
        try:
            with Family(FOLDER) as services:
                port = private_redis.start(services, core=cores.load, folder=Path(temporary))
                bench = Bench(
                    stage=lambda: _stage(port, cores, Path(temporary)),
                    load=LoadClient(program),
                    report=report,
                    seconds=options.seconds,
                )
                budget_s = BUDGET_S * max(1.0, options.seconds / SECONDS)
                _measure(bench, options.only, until_s=time.monotonic() + budget_s)
        except KeyboardInterrupt:
            report.failures += 1
            report.remark("interrupted: this is what was measured before")
        except Failed as error:
            _say(f"bench: {error}")
            return 2
    _say("\n" + report.table())
    _say(f"\n{len(report.measurements)} measurements in {RESULTS.relative_to(machine.ROOT)}")
    return 1 if report.failures else 0


def _measure(bench: Bench, only: Sequence[str], *, until_s: float) -> None:
    for case, subject in _chosen(only):
        began_s = time.monotonic()
        if began_s > until_s:
            bench.report.failed(case.name, subject.name, "no time left")
            continue
        try:
            for measurement in case.measure(bench, subject):
                bench.report.add(measurement)
            outcome = f"{time.monotonic() - began_s:.0f} s"
        except NotHere as missing:
            bench.report.remark(f"not here: {subject.name} ({missing})")
            outcome = f"not here: {missing}"
        except Failed as error:
            bench.report.failed(case.name, subject.name, str(error))
            outcome = f"FAILED: {error}"
        _say(f"  {case.name:13} {subject.name:12} {outcome}")


def _chosen(only: Sequence[str]) -> Iterator[tuple[Case, Subject]]:
    wanted = [text.partition(":")[::2] for text in only] or [("", "")]
    for case in CASES.values():
        for name in case.subjects:
            if any(c in ("", case.name) and s in ("", name) for c, s in wanted):
                yield case, SUBJECTS[name]


@contextmanager
def _stage(redis_port: int, cores: machine.Cores, temporary: Path) -> Iterator[Stage]:
    """A clean start for one measurement: nothing of the one before is left in Redis or running."""
    with redis.Redis(port=redis_port, socket_timeout=5) as client:
        client.flushall()
    with Family(FOLDER) as family:
        yield Stage(
            family=family, redis_port=redis_port, cores=cores, folder=FOLDER, temporary=temporary
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CASE[:SUBJECT]",
        help=f"cases: {', '.join(CASES)}; subjects: {', '.join(SUBJECTS)}; may be repeated",
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="measured time of each step")
    options = parser.parse_args()
    if not 0.5 <= options.seconds <= 60:
        parser.error("--seconds: from 0.5 to 60")
    for text in options.only:
        case, _, subject = text.partition(":")
        if case and case not in CASES:
            parser.error(f"--only: no case {case!r}; there are {', '.join(CASES)}")
        if subject and subject not in SUBJECTS:
            parser.error(f"--only: no subject {subject!r}; there are {', '.join(SUBJECTS)}")
    return options


def _header(cores: machine.Cores, seconds: float) -> str:
    busy = os.getloadavg()[0]
    lines = [
        f"server alone on core {cores.server}; "
        f"load client, publisher and Redis on core {cores.load}; {seconds:g} s a step",
        *(f"  {subject.name:12} {subject.what}" for subject in SUBJECTS.values()),
    ]
    if cores.server == cores.load:
        lines.append("only one core: servers and load share it, the numbers say little")
    if busy > 0.5:
        lines.append(
            f"the machine is busy already (load average {busy:.1f}): the numbers will be worse"
        )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
