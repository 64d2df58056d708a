"""What a case is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from tests.bench.load import LoadClient
from tests.bench.report import Measurement, Report
from tests.bench.subjects.contract import Stage, Subject

#: Longest wait for the load client to open all its connections; stock Channels opens 300 a second.
OPEN_S = 60.0


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. `stage()` gives a clean place: an empty Redis, and a family ended on leaving."""

    stage: Callable[[], AbstractContextManager[Stage]]
    load: LoadClient
    report: Report
    seconds: float
    warmup_s: float = 1.0


class Case(Protocol):
    """One kind of measurement."""

    name: str
    #: Names of the subjects it makes sense for.
    subjects: tuple[str, ...]

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Measure one subject. Raises NotHere or Failed."""
