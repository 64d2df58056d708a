"""Other processes on the test run's database, and their death."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from django.db import connection, connections


def database_url() -> str:
    """The test run's database, for processes that are started."""
    named = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{named['NAME']}"
    return f"mysql://{named['USER']}:{named['PASSWORD']}@{named['HOST']}:{named['PORT']}/{named['NAME']}"


def fork(work: Callable[[], object]) -> int:
    """Do `work` in a process of its own, with connections of its own; its id. It ends with 1 where
    that raised."""
    # A socket that both hold would be closed for both.
    connections.close_all()
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def has_ended(pid: int) -> bool:
    """Whether a process of ours is over by itself, well. Raises RuntimeError where it failed."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended and os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"process {pid} ended with {os.waitstatus_to_exitcode(status)}")
    return bool(ended)


def kill(pid: int) -> None:
    """SIGKILL, and wait."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
