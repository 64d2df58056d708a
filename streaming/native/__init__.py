"""The fan-out's two loops in C. `fanout.c` says what they do, `build.py` makes them."""

from __future__ import annotations

import hashlib
import importlib
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).with_name("fanout.c")
LIBRARY = Path(__file__).with_name("_fanout" + str(sysconfig.get_config_var("EXT_SUFFIX")))


@cache
def digest() -> str:
    """What the source is, in 16 hexadecimal digits."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def load() -> ModuleType | None:
    """What was built of this source; None where nothing was, or of an older one, or it cannot be
    read."""
    # Not imported to be asked: what is imported cannot be built anew.
    try:
        if digest().encode() not in LIBRARY.read_bytes():
            return None
        importlib.invalidate_caches()  # it may have been built just now
        return importlib.import_module("streaming.native._fanout")
    except (ImportError, OSError):
        return None
