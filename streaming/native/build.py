"""`python -m streaming.native.build`: compile `fanout.c`, where there is a compiler.

Without one the relay does the same in Python: all of it works, and a core serves less.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from streaming.native import LIBRARY, SOURCE, digest, load

#: What it takes on Debian and Ubuntu.
PACKAGES = "build-essential python3-dev"


class CannotBuild(Exception):
    """Why not, in one line."""


def build() -> Path:
    """Compile, unless that was done. Raises CannotBuild, OSError where nothing may be written."""
    if load() is not None:
        return LIBRARY
    compiler = shutil.which("cc")
    if compiler is None:
        raise CannotBuild(f"no C compiler (apt-get install {PACKAGES})")
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        raise CannotBuild(f"no Python.h in {include} (apt-get install {PACKAGES})")
    # In a folder of its own, since two may build at once, and beside the library, to be moved there
    # whole.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=LIBRARY.parent) as folder:
        fresh = Path(folder, LIBRARY.name)
        command = [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC"]
        command += [f'-DSOURCE="{digest()}"', f"-I{include}", "-o", str(fresh), str(SOURCE)]
        result = subprocess.run(  # noqa: S603 - the compiler that PATH names, on our own source
            command, capture_output=True, text=True, timeout=120, check=False
        )
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if "error" in line]
            raise CannotBuild(errors[0] if errors else result.stderr.strip()[:200])
        fresh.replace(LIBRARY)
    if load() is None:
        raise CannotBuild(f"what was built cannot be loaded: {LIBRARY}")
    return LIBRARY


def main() -> int:
    """Say what became of it; 0 in any case, because the relay runs without."""
    try:
        build()
    except (CannotBuild, OSError, subprocess.SubprocessError) as error:
        print(f"The fan-out stays in Python, which costs speed: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
