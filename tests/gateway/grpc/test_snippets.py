"""The clients of docs/grpc.md in other languages, as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from streaming.core.envelope import Role
from tests.clients.environments import node_command, node_environment
from tests.conftest import skip
from tests.gateway.grpc.clients import trade
from tests.support.grpc_edge import GrpcEdge
from tests.support.relay import ROOT
from tests.support.services import Missing, start_process, wait_until

PAGE = (ROOT / "docs" / "grpc.md").read_text()
ADDRESS = "127.0.0.1:50051"


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert isinstance(found, str)
    return found


def test_typescript_follows_and_resumes(redis_url: str, tmp_path: Path) -> None:
    try:
        folder = node_environment("grpc_js")
    except Missing as missing:
        skip(str(missing))
        raise
    edge = GrpcEdge(tmp_path / "var", redis_url=redis_url.removesuffix("/0") + "/14")
    edge.start()
    script, log = tmp_path / "snippet.ts", tmp_path / "printed"
    text = snippet("ts")
    assert ADDRESS in text
    script.write_text(text.replace(ADDRESS, edge.target))
    os.environ["HLR_KEY"] = edge.api_key
    try:
        # From the root, where the page says that the protos are.
        client = start_process([*node_command(), str(folder / "run.mjs"), str(script)], log=log)
    finally:
        del os.environ["HLR_KEY"]

    def heights() -> list[int]:
        return [int(n) for n in re.findall(r'^t (\d+) \{"channel"', log.read_text(), re.M)]

    def wait(last: int) -> None:
        wait_until(
            lambda: last in heights(), process=client, what=f"block {last}", log=log, deadline_s=60
        )

    try:
        edge.wait_for_lease("trades BTC")
        edge.tell(trade("BTC", 100, Role.SNAPSHOT), trade("BTC", 101), trade("BTC", 102))
        wait(102)
        edge.restart()
        edge.tell(trade("BTC", 103), trade("BTC", 104))
        edge.wait_for_lease("trades BTC")
        edge.publish(trade("BTC", 104, Role.SNAPSHOT))  # a worker answers the lease
        wait(104)
        assert heights() == [100, 101, 102, 103, 104]
    finally:
        client.kill()
        client.wait()
        edge.stop()
        for made in folder.glob("snippet-*.mjs"):
            made.unlink()


def test_go_is_go() -> None:
    gofmt = shutil.which("gofmt")
    if gofmt is None:
        pytest.skip("gofmt is not here (apt-get install golang-go)")
    program = f"package main\n\nfunc main() {{\n{snippet('go')}}}\n"
    done = subprocess.run([gofmt, "-e"], input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
