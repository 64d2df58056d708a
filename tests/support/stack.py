"""Room for the frames of a test.

Python 3.11 keeps frames in pieces of 16 KiB, and gives a piece back as soon as the last frame in it
ends. Where a deep recursion, as that of Django's templates, goes over the end of a piece again and
again, each time is an mmap and a munmap: 20,000 a second, a sixth of the pages' time. Below a frame
that asks for much, the piece is large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def with_room(call: Callable[[], Any]) -> Any:
    """What `call` returns."""
    return call()


#: 8 bytes each: with what Python adds the piece is of 1 MiB, and a half is left for who is called.
with_room.__code__ = with_room.__code__.replace(co_stacksize=70_000)
