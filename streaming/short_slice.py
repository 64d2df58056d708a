"""Asking the kernel for a turn at once rather than for a long one.

An edge and a worker work for less than a millisecond at a time, and what one of them waits for on a
busy core is everybody's latency. With a short slice (Linux 6.12 and later, no privilege needed) a
process that wakes goes before one that has been running, and its share of the core stays the same.
Where worker and edge share a core, a book passed the worker's reading of its block's 450 KB of
order statuses: 2.0 ms from the node's file to the socket became 1.4.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

#: The shortest the kernel takes.
SLICE_NS = 100_000

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
#: `struct sched_attr` (sched_setattr(2)): size, policy, flags, nice, priority, runtime, deadline,
#: period, and the two bounds of utilisation.
_ATTR = struct.Struct("=IIQiIQQQII")


def ask_for_short_slice() -> bool:
    """For the calling thread and those it starts; False where the kernel knows no such thing, or
    an operator has chosen another policy.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or not hasattr(os, "SCHED_OTHER"):
        return False
    try:
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
    except OSError:  # musl's, and that of some sandboxes
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attr = _ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0, 0, 0)
    return ctypes.CDLL(None).syscall(number, 0, attr, 0) == 0
