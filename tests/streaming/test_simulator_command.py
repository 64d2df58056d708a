"""`manage.py run_simulator` as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from streaming.management.commands.run_simulator import start_time_ns
from streaming.simulator.files.resume import last_block

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30
COMMAND = ("run_simulator", "--port", "0")


class Running:
    """A started command and the line it printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "manage.py",
                "run_simulator",
                "--port",
                "0",
                *arguments,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = next(word for word in self.line.split() if word.startswith("http://")).strip(",")

    def info(self, **body: object) -> object:
        request = urllib.request.Request(f"{self.url}/info", json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310
            return json.load(answer)

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Signal the process and return how long it took to end, in seconds."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate(timeout=DEADLINE_S)
        return time.monotonic() - began_s


@pytest.fixture
def started() -> Iterator[list[Running]]:
    running: list[Running] = []
    yield running
    for each in running:
        if each.process.poll() is None:
            each.stop(signal.SIGKILL)


def test_it_serves_stops_promptly_and_goes_on_after_a_kill(
    tmp_path: Path, started: list[Running]
) -> None:
    first = Running("--dir", str(tmp_path), "--blocks-per-s", "100", "--mode", "both")
    started.append(first)
    assert "serving http://127.0.0.1:" in first.line
    times = [first.info(type="exchangeStatus")["time"]]
    while len(times) < 3:
        now = first.info(type="exchangeStatus")["time"]
        times += [now] if now != times[-1] else []
    first.stop(signal.SIGKILL)
    before = last_block(tmp_path)
    assert before is not None
    second = Running("--dir", str(tmp_path), "--blocks-per-s", "100")
    started.append(second)
    # Two cores are shared with other tests: one second is promised, three are allowed here.
    assert second.stop() < 3
    assert second.process.returncode == 0
    after = last_block(tmp_path)
    assert after is not None
    assert after.height > before.height + 100
    assert after.time_ns > before.time_ns


def test_a_taken_port_and_a_bad_directory_are_one_clear_line(
    tmp_path: Path, started: list[Running]
) -> None:
    running = Running("--dir", str(tmp_path / "one"))
    started.append(running)
    port = running.url.rsplit(":", 1)[1]
    with pytest.raises(CommandError, match=port):
        call_command("run_simulator", dir=tmp_path / "two", port=int(port))
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="file"):
        call_command("run_simulator", dir=tmp_path / "file", port=0)


def test_options_that_cannot_work_are_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--dir is needed"):
        call_command("run_simulator", port=0)
    with pytest.raises(CommandError, match="does not exist"):
        call_command("run_simulator", "--replay", str(tmp_path / "gone"))
    with pytest.raises(CommandError, match="reject_share"):
        call_command("run_simulator", dir=tmp_path, reject_share=2.0)


def test_a_start_time_is_iso_or_milliseconds() -> None:
    assert start_time_ns(None) is None
    assert start_time_ns("1790000000000") == 1_790_000_000_000_000_000
    assert start_time_ns("2026-09-21T14:13:20") == 1_790_000_000_000_000_000
    assert start_time_ns("2026-09-21T14:13:20.070000000Z") == 1_790_000_000_070_000_000
