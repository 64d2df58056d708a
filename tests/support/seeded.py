"""A relay's folder as it is before its first start: a migrated database, the demo tenant, its
secrets.

Made once per test run and copied from then on: a start of Python takes 2 s of a core, a copy none.
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

from tests.support.migrated import copy_migrated, is_foreign

ROOT = Path(__file__).resolve().parents[2]


def seed(var: Path) -> str:
    """Make `var`, or add to it; returns the demo tenant's API key, the same in every folder."""
    shutil.copytree(_original(), var, dirs_exist_ok=True)
    demo = json.loads((var / "secrets" / "demo.json").read_text("utf-8"))
    return str(demo["api_key"])


@functools.cache
def _original() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hlrelay-seeded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy_migrated(folder / "relay.sqlite3")
    kept = {name: value for name, value in os.environ.items() if not is_foreign(name)}
    subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "seed_demo"],
        env=kept | {"RELAY_VAR": str(folder), "RELAY_UPSTREAMS": "simulator:"},
        check=True,
        capture_output=True,
    )
    return folder
