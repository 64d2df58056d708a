"""What pages' scripts reckon with, tested in node: `js/*.test.js`, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import gateway.dashboard
from tests.conftest import skip

STATIC = Path(gateway.dashboard.__file__).parent / "static" / "dashboard"
TESTS = Path(__file__).with_name("js")


@pytest.mark.parametrize("name", sorted(path.name for path in TESTS.glob("*.test.js")))
def test_in_node(name: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        skip("node is not installed")
        return
    # Beside a package.json that says "modules", which what browsers load does not need.
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}), "utf-8")
    for folder in ("live", "market", "race"):
        shutil.copytree(STATIC / folder, tmp_path / folder)
    (tmp_path / "tests").mkdir()
    for path in (TESTS / name, *TESTS.glob("*.json")):
        shutil.copy(path, tmp_path / "tests")
    done = subprocess.run(
        [node, "--test", f"tests/{name}"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
