"""What customers copy is a program: it is parsed by its own language where that is here."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.dashboard.addresses import Addresses
from gateway.dashboard.snippets import SNIPPETS, snippets

AT = Addresses("https://relay.example", "wss://relay.example", "relay.example:50051", True)
KEY = "hlr_live_" + "a" * 38
TEXTS = {snippet.name: snippet.text for snippet in snippets(AT, KEY)}


@pytest.mark.parametrize("name", [snippet.name for snippet in SNIPPETS])
def test_it_has_the_key_and_the_address(name: str) -> None:
    assert KEY in TEXTS[name]
    assert "relay.example" in TEXTS[name]
    assert "{{" not in TEXTS[name]


@pytest.mark.parametrize("name", ["python-sdk", "ccxt"])
def test_python_compiles(name: str) -> None:
    compile(TEXTS[name], name, "exec")


def test_typescript_is_read_by_node(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    program = tmp_path / "program.mjs"
    program.write_text(TEXTS["typescript"])
    checked = subprocess.run(["node", "--check", str(program)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("name", "option"), [("curl", "-d"), ("wscat", "-x"), ("grpcurl", "-d")])
def test_shells_split_it_and_it_sends_json(name: str, option: str) -> None:
    words = shlex.split(TEXTS[name].replace("\\\n", " "))
    assert words[0] == name
    assert json.loads(words[words.index(option) + 1])
    plain = {one.name: one.text for one in snippets(Addresses("h", "w", "g:1", False))}
    assert "-plaintext" in plain["grpcurl"]
    assert "-plaintext" not in TEXTS["grpcurl"]
