"""kill -9 anywhere in counting, sealing, shipping: nothing twice, at most one message missing."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from billing.metering import meter as meter_module
from billing.metering import slots as slots_module
from billing.metering import spool as spool_module
from billing.metering.meter import Meter
from billing.metering.spool import Spool, recover, settle
from tests.billing.ledger import Ledger
from tests.support.relay import ROOT

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
TRACED = {module.__file__ for module in (meter_module, slots_module, spool_module)}
BYTES_EACH = 10
#: The last minutes of an hour and the first of the next, as they are marked.
MINUTES = [int(NOON.timestamp()) // 60 + minute for minute in (58, 59, 60, 61, 120)]


class Rig:
    """The folders of one relay, and an oracle that survives the counting process."""

    def __init__(self, folder: Path, *, copied_from: Path | None = None) -> None:
        self.meters = folder / "meters"
        if copied_from is None:
            self.meters.mkdir(parents=True)
            (folder / "oracle").write_bytes(bytes(16))
        else:
            shutil.copytree(copied_from, folder)
        self.spool = Spool(folder / "spool")
        self.ledger = Ledger(folder / "ledger")
        with (folder / "oracle").open("r+b") as file:
            self.oracle = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")

    def mark(self, meter: Meter) -> None:
        """The next minute begins, and a coin is followed."""
        meter.mark(7, "kPEPE", MINUTES[self.oracle[1] % len(MINUTES)])
        self.oracle[1] += 1

    def count(self, meter: Meter, slot: int, times: int) -> None:
        """Deliver and count; the oracle notes a delivery after its count, as a socket would."""
        for _ in range(times):
            meter.add(slot, 1, BYTES_EACH)
            self.oracle[0] += 1

    def scenario(self) -> None:
        """Two batches sealed and shipped, one begun, some counted after."""
        meter = Meter.create(self.meters, now=NOON)
        book = meter.slot(7, "l2Book", "BTC")
        for _ in range(2):
            self.count(meter, book, 3)
            self.mark(meter)
            meter.begin_seal(NOON)
            self.count(meter, meter.slot(8, "bbo", "BTC", "replay"), 2)
            settle(meter, self.spool)
            self.ledger.drain(self.spool)
        self.count(meter, book, 1)
        self.mark(meter)  # of another hour, in the words of the first
        self.mark(meter)
        meter.begin_seal(NOON)
        self.count(meter, book, 1)
        self.mark(meter)  # of a third, while those are being sealed

    def recover(self) -> None:
        recover(self.meters, self.spool, now=NOON)

    def check(self, *, killed: bool) -> None:
        """Take over what is left, bring it into the ledger, and compare with the oracle."""
        self.recover()
        assert not list(self.meters.glob("*.meter"))
        self.ledger.drain(self.spool)
        sums = self.ledger.sums()
        messages = sum(units for (_, _, metric), units in sums.items() if metric == "messages")
        payload_bytes = sum(units for (_, _, metric), units in sums.items() if metric == "bytes")
        # The one message that was being counted at the moment of death may be in or not.
        slack = 1 if killed else 0
        assert self.oracle[0] <= messages <= self.oracle[0] + slack
        assert messages - slack <= payload_bytes // BYTES_EACH <= messages
        told = self.ledger.minutes()
        assert told == {(7, "kPEPE", minute) for minute in MINUTES[: len(told)]}
        assert self.oracle[1] <= len(told) <= self.oracle[1] + slack


def in_child(act: Callable[[], None], *, kill_at_line: int) -> bool:
    """Run `act` in a process that kills itself (SIGKILL) before the n-th line of ours.

    Answers whether it came to that.
    """
    child = os.fork()
    if child == 0:
        left = kill_at_line

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def walk_scenario(folder: Path) -> None:
    line, killed = 0, True
    while killed:
        line += 1
        rig = Rig(folder / str(line))
        killed = in_child(rig.scenario, kill_at_line=line)
        rig.check(killed=killed)
    assert line > 200  # the whole of it was walked through
    assert rig.ledger.sums()[7, "l2Book", "messages"] == 8
    assert len(rig.ledger.minutes()) == len(MINUTES)


def walk_recovery(folder: Path) -> None:
    dead = folder / "dead"
    in_child(Rig(dead).scenario, kill_at_line=0)
    line, killed = 0, True
    while killed:
        line += 1
        # A copy costs a tenth of a process that does it all again.
        rig = Rig(folder / str(line), copied_from=dead)
        killed = in_child(rig.recover, kill_at_line=line)
        rig.check(killed=False)
    assert line > 100


WALK = """
import sys
from pathlib import Path
from tests.billing import test_meter_survives_kill as walks
getattr(walks, sys.argv[1])(Path(sys.argv[2]))
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("walk", [walk_scenario, walk_recovery])
def test_killed_before_every_single_line(tmp_path: Path, walk: Callable[[Path], None]) -> None:
    # In a small process, whose more than a thousand forks cost a third of the test run's.
    command = [sys.executable, "-c", WALK, walk.__name__, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]


@pytest.mark.parametrize("seed", range(20))
def test_killed_and_killed_again_anywhere(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    rig = Rig(tmp_path / "rig")
    deaths = sum(
        in_child(act, kill_at_line=choose.randrange(1, 600))
        for _ in range(4)
        for act in (rig.scenario, rig.recover)
    )
    rig.recover()
    rig.ledger.drain(rig.spool)
    messages = sum(n for (_, _, metric), n in rig.ledger.sums().items() if metric == "messages")
    assert rig.oracle[0] <= messages <= rig.oracle[0] + deaths


COUNTING = """
import queue, sys, threading
from pathlib import Path
from datetime import UTC, datetime
from billing.metering.meter import Meter
from billing.metering.spool import Shipper
from tests.billing.ledger import Ledger
from tests.billing.test_meter_survives_kill import Rig

class Existing(Rig):
    def __init__(self, folder):
        import mmap
        self.ledger = Ledger(folder / "ledger")
        with (folder / "oracle").open("r+b") as file:
            self.oracle = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")

folder = Path(sys.argv[1])
rig = Existing(folder)
calls = queue.SimpleQueue()
counted = set()
def ship(batch_id, payload):
    rig.ledger.ingest(batch_id, payload)
    counted.add(batch_id)
meter = Meter.create(folder / "meters", now=datetime.now(UTC))
shipper = Shipper(meter, folder / "spool", ship=ship, acknowledged=lambda ids: counted & set(ids),
                  call_soon=calls.put, interval_s=0.002)
print("counting", flush=True)  # before the shipper, which may log a line of its own
shipper.start()
slot = meter.slot(7, "l2Book")
while True:
    rig.count(meter, slot, 50)
    while not calls.empty():
        calls.get()()
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_real_process_killed_at_a_random_moment(tmp_path: Path, seed: int) -> None:
    rig = Rig(tmp_path / "rig")
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(tmp_path / "rig")], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"counting\n"
        _wait_for_batches(rig.ledger, more_than=len(rig.ledger.batches()))
        # Not a wait for anything: the moment of death is the random input of this test.
        time.sleep(random.Random(seed).uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    rig.recover()
    rig.ledger.drain(rig.spool)
    messages = rig.ledger.sums()[7, "l2Book", "messages"]
    assert rig.oracle[0] <= messages <= rig.oracle[0] + 2


def _wait_for_batches(ledger: Ledger, *, more_than: int) -> None:
    deadline_s = time.monotonic() + 20
    while len([path for path in ledger.folder.iterdir() if path.suffix != ".new"]) <= more_than:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
