"""docs/api.md: its snippets are run against an edge, and it names every path and code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.account import errors as account
from gateway.api import door, once
from gateway.api.describing import description
from gateway.api.usage import EXPORT_NAMES
from tenants.admission.errors import KINDS
from tests.support.edge import Edge
from tests.support.environment import VAR

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
SNIPPETS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)
#: Those of a snippet whose answers are files.
FILES = ("usage.csv", "receipts/2026", "exports/")
MAKE = """
from tenants.models import Tenant
from tenants.services import issue_key
scopes = ["account", "ws", "info"]
print(issue_key(tenant=Tenant.objects.get(), name="docs", scopes=scopes).raw)
"""


@pytest.fixture(scope="module")
def variables(redis_url: str) -> Iterator[dict[str, str]]:
    """Where, and with which key."""
    edge = Edge(VAR / "docs-edge", redis_url=redis_url.removesuffix("/0") + "/9")
    edge.manage("load_plans")
    edge.start()
    yield {**os.environ, "URL": f"http://127.0.0.1:{edge.port}", "KEY": edge.shell(MAKE)}
    edge.stop()


def commands() -> list[str]:
    """Each command of the page, in its order."""
    found = []
    for language, text in SNIPPETS:
        if language == "sh":
            joined = text.replace("\\\n", " ")
            found += [line for line in joined.splitlines() if line.strip()]
    return found


def test_snippets_in_their_order(variables: dict[str, str]) -> None:
    assert len(commands()) >= 20
    for command in commands():
        assert command.startswith("curl -s ")
        done = subprocess.run(
            ["bash", "-c", command], env=variables, capture_output=True, text=True, check=True
        )
        if any(name in command for name in FILES):
            assert done.stdout, command
            assert '"error"' not in done.stdout, done.stdout
            continue
        answer = json.loads(done.stdout)
        if "limit=0" in command:
            (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
            shown = json.loads(shown)
            shown["error"]["request_id"] = answer["error"]["request_id"]
            assert answer == shown
        else:
            assert "error" not in answer, (command, answer)
    made = next(command for command in commands() if "Idempotency-Key" in command)
    again = subprocess.run(
        ["bash", "-c", made], env=variables, capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout)["key"] is None


def test_python(variables: dict[str, str]) -> None:
    (text,) = [text for language, text in SNIPPETS if language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", text], env=variables, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d+ rows; \d+ keys\n", done.stdout)


def test_every_code_is_named() -> None:
    ours = {kind.code for kind in account.AccountError.__subclasses__()} | {once.Mismatch.code}
    asked = {"quota_exhausted", "draining", "too_many_connections", "too_many_subscriptions"}
    asked |= {"too_many_coins", "too_many_users"}  # of doors that hold something open
    codes = ours | {kind.code for kind in KINDS} - asked
    missing = [code for code in sorted(codes) if f"`{code}`" not in PAGE]
    assert missing == []


def test_figures() -> None:
    assert f"a request weighs {door.WEIGHT};" in PAGE
    assert f"facets weigh {door.HEAVY_WEIGHT}." in PAGE
    assert f"may have {door.MAX_AT_ONCE} requests under way" in PAGE
    assert f"more than {door.MAX_BODY_BYTES // 1024} KiB" in PAGE
    for name in EXPORT_NAMES:
        assert f"`{name}`" in PAGE


def test_every_first_part_of_a_path_is_named() -> None:
    paths = json.loads(description())["paths"]
    parts = {path.removeprefix("/v1/").partition("/")[0] for path in paths}
    assert parts <= door.PARTS
    assert [part for part in sorted(parts) if f"/v1/{part}" not in PAGE] == []
