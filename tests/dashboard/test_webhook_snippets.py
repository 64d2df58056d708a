"""What customers copy to check a signature accepts what was signed, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from gateway.dashboard.webhook_snippets import SNIPPETS
from tenants.notices.signature import Secret, header
from tests.conftest import skip

TEXTS = {snippet.code: snippet.text for snippet in SNIPPETS}
NEW, OLD = Secret("whsec_new"), Secret("whsec_old")
BODY = '{"kind":"ping","ü":1}'.encode()


def cases() -> list[tuple[str, str, bytes, bool]]:
    """Secret, header, body, and whether it is ours."""
    now = int(time.time())
    both = header([NEW, OLD], body=BODY, at_s=now)
    return [
        (NEW.text, both, BODY, True),
        (OLD.text, both, BODY, True),
        ("whsec_other", both, BODY, False),
        (NEW.text, both, BODY + b" ", False),
        (NEW.text, header([NEW], body=BODY, at_s=now - 301), BODY, False),
        (NEW.text, "t=,v1=", BODY, False),
        (NEW.text, "", BODY, False),
    ]


@pytest.mark.parametrize("number", range(7))
def test_python(number: int) -> None:
    secret, signed, body, is_ours = cases()[number]
    space: dict[str, object] = {}
    exec(TEXTS["python"], space)  # noqa: S102 - what customers run
    assert space["verify"](secret, signed, body) is is_ours  # type: ignore[operator]


def test_node(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        skip("node is not installed")
    asks = "\n".join(
        f"console.log(verify({secret!r}, {signed!r}, Buffer.from('{body.hex()}', 'hex')));"
        for secret, signed, body, _ in cases()
    )
    (tmp_path / "verify.mjs").write_text(f"{TEXTS['node']}\n{asks}\n", "utf-8")
    done = subprocess.run(
        [str(node), "verify.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(is_ours).lower() for *_, is_ours in cases()]


def test_go(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        skip("go is not installed")
    imports = ("crypto/hmac", "crypto/sha256", "encoding/hex", "math", "strconv", "strings", "time")
    asks = "\n".join(
        f'b{n}, _ := hex.DecodeString("{body.hex()}"); '
        f'println(Verify("{secret}", "{signed}", b{n}))'
        for n, (secret, signed, body, _) in enumerate(cases())
    )
    text = "package main\nimport (\n" + "\n".join(f'"{name}"' for name in imports) + "\n)\n"
    (tmp_path / "main.go").write_text(f"{text}{TEXTS['go']}\nfunc main() {{\n{asks}\n}}\n", "utf-8")
    done = subprocess.run(
        [str(go), "run", "main.go"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == [str(is_ours).lower() for *_, is_ours in cases()]
