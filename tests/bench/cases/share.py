"""What metering, admission and numbering take of an edge's time while it fans out.

Sampled from outside by py-spy, so the edge runs as it does; the stacks stay in
`var/bench/fanout-<dialect>.folded`, for a flame graph. A sample counts as what its innermost frame
of ours is: a system call belongs to whoever made it.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench import payload
from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.cases.fanout import CLIENTS, GRACE_S, last_line, start_publisher
from tests.bench.machine import ROOT
from tests.bench.report import Measurement
from tests.bench.subjects.contract import NotHere, Stage, Subject

OFFERED = 1_500
#: Looks a second; of each 4 s a thousand, so that 1 % is ten of them.
LOOKS_PER_S = 250
#: Where a frame stands, and of what its time is a part. The first that fits counts.
PARTS = (
    ("metering", re.compile(r"^billing/|^streaming/core/batch\.py:tally$|:delivered$|:count$")),
    ("admission", re.compile(r"^tenants/")),
    ("seq", re.compile(r"^streaming/core/batch\.py:_next$|:take_number$")),
)
_MAIN = "<module> (manage.py"
#: A function in C has no line.
_FRAME = re.compile(r"^(?P<function>.+) \((?P<file>[^:()]+)(?::(?P<line>\d+))?\)$")


class Share:
    """Fan-out at a rate that all is delivered at, in both dialects."""

    name = "share"
    subjects: tuple[str, ...] = ("relay",)

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Percent of the samples, by part and together."""
        program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
        if program is None:
            raise NotHere("py-spy is missing: make tools")
        for dialect, query in (("official", ""), ("relay", "?relay=1")):
            with bench.stage() as stage:
                folded = stage.folder / f"fanout-{dialect}.folded"
                self._record(bench, subject, stage, program=program, query=query, folded=folded)
            parts = shares(folded.read_text(encoding="utf-8").splitlines())
            for part, share in parts.items():
                yield Measurement(
                    self.name, subject.name, f"{dialect}_{part}", share, "%", OFFERED, CLIENTS
                )

    def _record(
        self,
        bench: Bench,
        subject: Subject,
        stage: Stage,
        *,
        program: str,
        query: str,
        folded: Path,
    ) -> None:
        running = subject.start(stage)
        running = replace(running, path=running.path + query)
        messages = round(OFFERED * (bench.warmup_s + bench.seconds + 0.2))
        options = ["--seconds", str(bench.seconds), "--warmup", str(bench.warmup_s)]
        options += ["--connections", str(CLIENTS), "--expect", str(messages * CLIENTS)]
        client = bench.load.start(
            "fanout", stage=stage, running=running, options=[*options, "--grace", str(GRACE_S)]
        )
        client.line(timeout_s=OPEN_S)
        publisher = start_publisher(
            stage, form=running.form, size=payload.LARGE, offered=OFFERED, messages=messages
        )
        looks = ["--pid", str(running.pid), "--rate", str(LOOKS_PER_S)]
        looks += ["--duration", str(max(1, int(bench.seconds))), "--native"]
        # On the other core: looking takes time too.
        spy = stage.family.start(
            [program, "record", *looks, "--format", "raw", "--output", str(folded)],
            name="py-spy",
            core=stage.cores.load,
            cwd=ROOT,
        )
        last_line(bench, client, publisher)
        spy.process.wait(timeout=bench.seconds + 30)


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """Percent of the loop's samples, by part of `PARTS`, and of them `together`. `stacks` are
    py-spy's raw lines: frames from the outermost in, by `;`, and how often.
    """
    counts: Counter[str] = Counter()
    total = 0
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        if _MAIN not in frames:
            continue  # threads that sleep
        total += int(count)
        part = next(filter(None, map(_part, reversed(frames.split(";")))), "")
        counts[part] += int(count)
    own = {name: 100 * counts[name] / max(1, total) for name, _ in PARTS}
    return {**own, "together": sum(own.values())}


def _part(frame: str) -> str:
    """The part this frame belongs to; "other" for another one of ours, "" for a library's."""
    match = _FRAME.match(frame)
    if match is None:
        return ""
    file = match["file"].removeprefix(f"{ROOT}/")
    if not (ROOT / file).exists() or file.startswith((".venv", "/")):
        return ""
    where = f"{file}:{match['function'].rpartition('.')[2]}"
    return next((name for name, pattern in PARTS if pattern.search(where)), "other")
