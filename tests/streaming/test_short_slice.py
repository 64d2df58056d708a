"""The kernel is asked, and what an operator has chosen stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streaming.short_slice import SLICE_NS

GETATTR = {"x86_64": 315, "aarch64": 275}
ASK = """
import ctypes, os
{before}
from streaming.short_slice import _ATTR, ask_for_short_slice
asked = ask_for_short_slice()
attr = ctypes.create_string_buffer(_ATTR.size)
ctypes.CDLL(None).syscall({number}, 0, attr, _ATTR.size, 0)
_, policy, _, nice, _, runtime, *_ = _ATTR.unpack(attr.raw)
print(asked, policy, nice, runtime)
"""


def ask(before: str = "") -> list[str]:
    number = GETATTR.get(os.uname().machine)
    if number is None:
        pytest.skip("the numbers of this machine's system calls are not known")
    code = ASK.format(before=before, number=number)
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


def test_a_short_slice_is_given_and_niceness_kept() -> None:
    asked, policy, nice, runtime = ask("os.nice(3)")
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release < (6, 12):
        pytest.skip("this kernel has one slice for all")
    assert (asked, policy) == ("True", "0")
    assert int(nice) == os.getpriority(os.PRIO_PROCESS, 0) + 3
    assert int(runtime) == SLICE_NS


def test_another_policy_stays() -> None:
    before = "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"
    asked, policy, *_ = ask(before)
    assert (asked, policy) == ("False", str(os.SCHED_BATCH))
