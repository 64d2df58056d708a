"""Exports into files: there once they are whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path


def write_whole(
    out: Path, blocks: Iterable[bytes], *, progress: Callable[[int], None] | None = None
) -> int:
    """Write `blocks` beside `out` and put them in its place; answers the number of bytes.

    `progress` is told the bytes so far after each block. Raises OSError, and then `out` is what it
    was.
    """
    building = out.with_name(f".{out.name}.{os.getpid()}.new")
    size = 0
    try:
        with building.open("xb") as file:
            for block in blocks:
                size += file.write(block)
                if progress is not None:
                    progress(size)
            file.flush()
            os.fsync(file.fileno())
        building.replace(out)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    return size
