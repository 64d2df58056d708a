"""Every snippet of the quickstart, run as it stands there against a whole relay."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from hlrelay import Relay
from hlrelay.v1 import relay_pb2
from tests.clients.environments import node_command, node_environment, python_environment
from tests.conftest import skip
from tests.docsite.snippets import at, snippet
from tests.support.services import Missing

pytestmark = [pytest.mark.relay, pytest.mark.timeout(600)]

PAGE = "docs/quickstart.md"
#: A Go program is compiled first, an npm client installed.
DEADLINE_S = 120
#: Where Debian's package puts the one library that the Go snippet uses.
GOCODE = Path("/usr/share/gocode")


def lines_of(
    command: list[str], is_enough: Callable[[str], bool], **options: Any
) -> tuple[bool, str]:
    """Run until a line is enough, then end it; whether one was, and all it said."""
    said = b""
    end_s = time.monotonic() + DEADLINE_S
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    ) as process:
        assert process.stdout is not None
        try:
            while time.monotonic() < end_s:
                if not select.select([process.stdout], [], [], 1.0)[0]:
                    continue
                got = os.read(process.stdout.fileno(), 65_536)
                said += got
                if any(is_enough(line) for line in said.decode(errors="replace").splitlines()):
                    return True, said.decode(errors="replace")
                if not got:
                    break
            return False, said.decode(errors="replace")
        finally:
            process.kill()


def is_book(line: str) -> bool:
    return "'channel': 'l2Book'" in line or '"channel":"l2Book"' in line


def test_python_sdk(relay: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "follow.py"
    script.write_text(at(relay, snippet(PAGE, "python-sdk")))
    # Its thread is no daemon: the interpreter goes on for it.
    command = [str(python_environment("python_sdk")), "-u", str(script)]
    found, said = lines_of(command, is_book)
    assert found, said[-2_000:]


def test_ccxt(relay: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "follow.py"
    script.write_text(at(relay, snippet(PAGE, "ccxt")))
    command = [str(python_environment("ccxt")), "-u", str(script)]
    found, said = lines_of(command, lambda line: line.count("[") == 2 and line[0].isdigit())
    assert found, said[-2_000:]


def test_typescript(relay: dict[str, Any]) -> None:
    """Without a type in it, TypeScript is JavaScript."""
    try:
        folder = node_environment("nktkas")
        command = node_command()
    except Missing as missing:
        skip(str(missing))
        raise
    script = folder / "quickstart.mjs"
    script.write_text(at(relay, snippet(PAGE, "typescript")))
    found, said = lines_of([*command, str(script)], lambda line: "px:" in line)
    assert found, said[-2_000:]


def test_go(relay: dict[str, Any], tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None or not (GOCODE / "src/github.com/gorilla/websocket").is_dir():
        skip("go or its websocket library (golang-go, golang-github-gorilla-websocket-dev)")
    script = tmp_path / "main.go"
    script.write_text(at(relay, snippet(PAGE, "go")))
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": str(GOCODE),
        "GOCACHE": str(tmp_path / "cache"),
        "GOFLAGS": "",
    }
    program = tmp_path / "follow"
    subprocess.run(
        [str(go), "build", "-o", str(program), str(script)],
        env=environment,
        cwd=tmp_path,
        check=True,
        timeout=DEADLINE_S,
    )
    found, said = lines_of([str(program)], is_book)
    assert found, said[-2_000:]


def test_curl(relay: dict[str, Any]) -> None:
    if shutil.which("curl") is None:
        skip("curl is not here")
    command = at(relay, snippet(PAGE, "curl"))
    said = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    ).stdout
    assert json.loads(said)["coin"] == "BTC"


def test_wscat(relay: dict[str, Any]) -> None:
    try:
        folder = node_environment("wscat")
    except Missing as missing:
        skip(str(missing))
        raise
    program = folder / "node_modules" / ".bin"
    environment = os.environ | {"PATH": f"{program}:{os.environ['PATH']}"}
    command = ["sh", "-c", "exec " + at(relay, snippet(PAGE, "wscat"))]
    # wscat ends when its own input does.
    found, said = lines_of(
        command,
        lambda line: is_book(line) and '"seq":' in line and '"cursor":' in line,
        env=environment,
        stdin=subprocess.PIPE,
    )
    assert found, said[-2_000:]


def test_grpcurl(relay: dict[str, Any]) -> None:
    """grpcurl is in no registry that our machines reach: its call is made by what it says."""
    words = shlex.split(at(relay, snippet(PAGE, "grpcurl")).replace("\\\n", " "))
    assert words[0] == "grpcurl"
    name, _, value = words[words.index("-H") + 1].partition(": ")
    request = json_format.Parse(words[words.index("-d") + 1], relay_pb2.StreamRequest())
    target, method = words[-2:]
    service, _, rpc = method.partition("/")
    described = relay_pb2.DESCRIPTOR.services_by_name[service.rpartition(".")[2]]
    assert described.full_name == service
    assert described.methods_by_name[rpc].input_type.full_name == "hlrelay.v1.StreamRequest"
    client = Relay(target, key="")
    call = client.stub.Stream(iter([request]), metadata=((name, value),), timeout=DEADLINE_S)
    try:
        books = (
            e for response in call for e in response.envelopes if e.WhichOneof("what") == "json"
        )
        assert json.loads(next(books).json)["channel"] == "l2Book"
    finally:
        call.cancel()
        client.close()
