"""The clients of docs/grpc.md in other languages, as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming.core.envelope import Role
from tests.clients.environments import ENVIRONMENTS, node_command, node_environment
from tests.conftest import skip
from tests.gateway.grpc.clients import trade
from tests.support.grpc_edge import GrpcEdge
from tests.support.relay import ROOT
from tests.support.services import Missing, start_process, wait_until

PAGE = (ROOT / "docs" / "grpc.md").read_text()
ADDRESS = "127.0.0.1:50051"
GOCODE = Path("/usr/share/gocode")
GO_PACKAGES = "golang-go, golang-google-grpc-dev, protoc-gen-go-1-5, protoc-gen-go-grpc"
#: All of gRPC is compiled the first time: 40 s of a machine that others use.
BUILD_S = 240


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert isinstance(found, str)
    return found


def follows_and_resumes(edge: GrpcEdge, command: list[str], log: Path) -> None:
    """A program that prints what it gets, across a restart of the edge: each block once."""
    os.environ["HLR_KEY"] = edge.api_key
    try:
        # From the root, where the page says that the protos are.
        client = start_process(command, log=log)
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


@pytest.fixture
def edge(redis_url: str, tmp_path: Path) -> Iterator[GrpcEdge]:
    started = GrpcEdge(tmp_path / "var", redis_url=redis_url.removesuffix("/0") + "/14")
    started.start()
    yield started
    started.stop()


def test_typescript_follows_and_resumes(edge: GrpcEdge, tmp_path: Path) -> None:
    try:
        folder = node_environment("grpc_js")
    except Missing as missing:
        skip(str(missing))
        raise
    script = tmp_path / "snippet.ts"
    text = snippet("ts")
    assert ADDRESS in text
    script.write_text(text.replace(ADDRESS, edge.target))
    try:
        command = [*node_command(), str(folder / "run.mjs"), str(script)]
        follows_and_resumes(edge, command, tmp_path / "printed")
    finally:
        for made in folder.glob("snippet-*.mjs"):
            made.unlink()


def test_go_is_go() -> None:
    gofmt = shutil.which("gofmt")
    if gofmt is None:
        pytest.skip("gofmt is not here (apt-get install golang-go)")
    program = f"package main\n\nfunc main() {{\n{snippet('go')}}}\n"
    done = subprocess.run([gofmt, "-e"], input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_go_follows_and_resumes(edge: GrpcEdge, tmp_path: Path) -> None:
    go = shutil.which("go")
    plugins = [shutil.which("protoc-gen-go"), shutil.which("protoc-gen-go-grpc")]
    if go is None or not all(plugins) or not (GOCODE / "src/google.golang.org/grpc").is_dir():
        skip(f"go with its gRPC ({GO_PACKAGES})")
    # The page's command, with the compiler that is here.
    (generate,) = re.findall(r"### Go\n\n```sh\nprotoc (.*?)```", PAGE, re.DOTALL)
    words = shlex.split(generate.replace("\\\n", " "))
    sources = tmp_path / "src"
    sources.mkdir()
    words = [re.sub(r"_out=\.$", f"_out={sources}", word) for word in words]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words], cwd=ROOT, check=True)
    (package,) = set(re.findall(r"relay\.proto=(\S+)", generate))
    script = tmp_path / "main.go"
    script.write_text(_go_program(package, snippet("go").replace(ADDRESS, edge.target)))
    program = tmp_path / "follow"
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": f"{tmp_path}:{GOCODE}",
        # Kept: all of gRPC takes a minute.
        "GOCACHE": str(ENVIRONMENTS / "go-cache"),
        "GOFLAGS": "",
    }
    subprocess.run(
        [go, "build", "-o", str(program), str(script)],
        env=environment,
        cwd=tmp_path,
        check=True,
        timeout=BUILD_S,
    )
    follows_and_resumes(edge, [str(program)], tmp_path / "printed")


def _go_program(package: str, text: str) -> str:
    """The snippet in a program. Debian's gRPC is of 2020, when two calls had other names."""
    for now, then in (
        ("grpc.NewClient(", "grpc.Dial("),
        ("grpc.WithTransportCredentials(insecure.NewCredentials())", "grpc.WithInsecure()"),
    ):
        assert now in text
        text = text.replace(now, then)
    imports = "context fmt log os time google.golang.org/grpc google.golang.org/grpc/metadata"
    lines = "\n".join(f'"{name}"' for name in [*imports.split(), package])
    key = 'key := os.Getenv("HLR_KEY")'
    return f"package main\n\nimport (\n{lines}\n)\n\nfunc main() {{\n{key}\n{text}}}\n"
