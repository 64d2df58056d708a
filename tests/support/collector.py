"""What connections and requests of a real process leave for Python's collector."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.services import wait_until

#: Of a heap that holds nothing of these a library is the cause, and not who it is used by: the
#: compiler of a query with joins, a new connection to Redis. They are small and young, and gone
#: within a tenth of a second.
OURS = (
    "autobahn.",
    "billing.metering.",
    "daphne.",
    "gateway.",
    "grpc.",
    "streaming.",
    "tenants.admission.",
    "twisted.",
)
#: Of a query that failed Django keeps the error in the frame that raises it, and so the frames of
#: whoever asked: some 50 objects, when a file of SQLite is locked.
FAILED_QUERY = "frame:django.db.utils.DatabaseErrorWrapper.__exit__"
OBSERVER = Path(__file__).parent / "observer"
DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Heap:
    """Objects that nothing but each other refers to: how many of what kind, and the references that
    make cycles of them."""

    kinds: Counter[str]
    cycles: Counter[str]

    @property
    def is_ours(self) -> bool:
        """Whether it holds anything of a connection or request, the frames of its code too."""
        is_ours = any(kind.rpartition(":")[2].startswith(OURS) for kind in self.kinds)
        return is_ours and FAILED_QUERY not in self.kinds

    def __str__(self) -> str:
        lines = [f"{self.kinds.total()} objects:"]
        lines += [f"  {number} {kind}" for kind, number in self.kinds.most_common(12)]
        lines += ["  in cycles by:"]
        lines += [f"  {number} {edge}" for edge, number in self.cycles.most_common(12)]
        return "\n".join(lines)


class Observer:
    """Of one process, which is started with `variables`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._answer = folder / "observed.json"
        self._alive: dict[str, int] = {}
        self._process: subprocess.Popen[bytes]
        self._log: Path

    @property
    def variables(self) -> dict[str, str]:
        """Of the process's environment."""
        return {"PYTHONPATH": str(OBSERVER), "RELAY_OBSERVER_ANSWER": str(self._answer)}

    def begin(self, process: subprocess.Popen[bytes], *, log: Path) -> None:
        """Forget all that was before."""
        self._process, self._log = process, log
        self._look()
        self.left()

    def left(self) -> Sequence[Heap]:
        """What was left of ours since the last time, once every connection is gone."""
        heaps: list[Heap] = []

        def is_over() -> bool:
            told = self._look()
            found = (Heap(Counter(h["kinds"]), Counter(h["cycles"])) for h in told["heaps"])
            heaps.extend(heap for heap in found if heap.is_ours)
            self._alive = told["alive"]
            return not self._alive

        try:
            self._wait(is_over, what="the end of all connections")
        except RuntimeError as error:
            raise RuntimeError(f"still alive: {self._alive}") from error
        return heaps

    def _look(self) -> dict[str, Any]:
        self._answer.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        self._wait(self._answer.exists, what="a look")
        told: dict[str, Any] = json.loads(self._answer.read_text())
        return told

    def _wait(self, is_there: Callable[[], bool], *, what: str) -> None:
        wait_until(is_there, process=self._process, what=what, log=self._log, deadline_s=DEADLINE_S)
