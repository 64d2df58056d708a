"""Nothing that the bench starts outlives it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.bench.machine import cores
from tests.bench.processes import Failed, Family

DEADLINE_S = 10.0


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie whose new parent has not looked yet


def has_ended(pid: int) -> bool:
    deadline_s = time.monotonic() + DEADLINE_S
    while is_running(pid):
        if time.monotonic() > deadline_s:
            return False
        os.sched_yield()
    return True


def test_children_and_grandchildren_end_with_the_family(tmp_path: Path) -> None:
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, pids)
    assert len(pids) == 2
    assert all(has_ended(pid) for pid in pids)


def interrupted(folder: Path, pids: list[int]) -> None:
    """Start a child that ignores SIGTERM and has a child of its own; then Ctrl-C."""
    script = "trap '' TERM; sleep 600 & echo $!; wait"
    with Family(folder) as family:
        child = family.start(["sh", "-c", script], name="deaf", core=cores().load)
        pids += [child.pid, int(child.line(timeout_s=DEADLINE_S))]
        assert all(is_running(pid) for pid in pids)
        raise KeyboardInterrupt


def test_a_child_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    with Family(tmp_path) as family:
        child = family.start(
            ["sh", "-c", "echo no such key >&2; exit 3"], name="server", core=cores().load
        )
        with pytest.raises(Failed, match=r"server: ended with status 3 .*\(no such key\)"):
            child.wait_for_port(1, timeout_s=DEADLINE_S)
