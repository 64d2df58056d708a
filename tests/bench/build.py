"""Compiling the C programs of the bench, once per source."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

LOAD_CLIENT = Path(__file__).with_name("load.c")
GRPC_LOAD_CLIENT = Path(__file__).with_name("grpc_load.c")


class NoCompiler(Exception):
    """There is no `cc`; the text names the line that installs one."""


class DoesNotCompile(Exception):
    """The compiler refused the source; the text has its first error."""


def compiled(source: Path, folder: Path) -> Path:
    """The program made of `source`, named by the source's hash so that an old one is never run.

    Raises NoCompiler or DoesNotCompile.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = folder / f"{source.stem}-{digest}"
    if program.is_file():
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("no C compiler: apt-get install gcc libc6-dev")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(".new")
    command = [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(fresh), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if "error" in line]
        raise DoesNotCompile(
            f"{source.name}: {errors[0] if errors else result.stderr.strip()[:200]}"
        )
    fresh.replace(program)
    return program
