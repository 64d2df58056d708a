"""A relay's folder as it is before its first start: a migrated database, the demo tenant, its
secrets.

Made once per test run and copied from then on: two starts of Python take 3 s of a core, a copy
takes none.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Settings of whoever runs the tests must not reach what is tested.
FOREIGN = ("RELAY_", "REDIS_", "DATABASE_", "DJANGO_")


def seed(var: Path) -> str:
    """Make `var`, or add to it; returns the demo tenant's API key, the same in every folder."""
    shutil.copytree(_original(), var, dirs_exist_ok=True)
    demo = json.loads((var / "secrets" / "demo.json").read_text("utf-8"))
    return str(demo["api_key"])


@functools.cache
def _original() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hlrelay-seeded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    for command in (["migrate", "--verbosity", "0"], ["seed_demo"]):
        subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *command],
            env=kept | {"RELAY_VAR": str(folder), "RELAY_UPSTREAMS": "simulator:"},
            check=True,
            capture_output=True,
        )
    return folder
