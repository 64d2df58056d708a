"""What is shipped for operators is accepted by its programs, and keeps keys out of logs."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from relay_site.processes import free_port
from tests.conftest import skip
from tests.support.edge import DEADLINE_S, Edge
from tests.support.front import ask, front, trusting
from tests.support.relay import ROOT
from tests.support.services import Missing

PONG = '{"channel":"pong"}'
KEY = "hlr_live_" + "Ab3" * 12 + "xy"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The shipped nginx.conf with nobody behind: its TLS port and its folder."""
    folder = tmp_path_factory.mktemp("nginx")
    with _front(folder, backends=[free_port()]) as port:
        yield port, folder


@contextlib.contextmanager
def _front(folder: Path, *, backends: list[int]) -> Iterator[int]:
    try:
        with front(folder, backends=backends) as port:
            yield port
    except Missing as missing:
        skip(str(missing))
        raise


def test_nginx_writes_no_key(nginx: tuple[int, Path]) -> None:
    """Not for a path, a query or a referrer, nor a request too long, nor with nobody behind."""
    port, folder = nginx
    for path in (f"/{KEY}/info", f"/{KEY}/ws", f"/?api_key={KEY}", f"/{KEY}/" + "x" * 20_000):
        ask(port, path, referer=f"https://relay.example.com/{KEY}/info")
    logs = "".join(log.read_text() for log in folder.glob("*.log"))
    assert " info 502 " in logs
    assert " ws 502 " in logs
    assert KEY[9:] not in logs


def test_nginx_keeps_metrics_inside(nginx: tuple[int, Path]) -> None:
    """Whoever comes through the proxy sees neither metrics nor what readiness says."""
    port, _folder = nginx
    assert ask(port, "/metrics") == 404
    assert ask(port, "/readyz") == 404


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_what_exists(unit: Path) -> None:
    """Each unit runs a command of ours, and does not start again what refused its settings."""
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(unit)
    service = parsed["Service"]
    assert service["RestartPreventExitStatus"] == "2"
    command = service["ExecStart"].split()
    assert command[0] == "/opt/hl-relay/.venv/bin/python"
    if command[1] == "manage.py":
        assert list(ROOT.glob(f"*/management/commands/{command[2]}.py"))
    elif command[2] == "streaming.hl_gateway":
        assert (ROOT / "streaming/hl_gateway/__main__.py").exists()
    else:
        assert command[1:5] == ["-m", "celery", "-A", "relay_site"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify`, with a program that exists on this machine."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    copy = tmp_path / unit.name.replace("@", "@1")
    copy.write_text(unit.read_text().replace("/opt/hl-relay/.venv/bin/python", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", str(copy)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if unit.stem.split("@")[0] in line]
    assert not [line for line in ours if "Unknown" in line or "Failed to parse" in line], ours


def test_edges_behind_nginx_are_replaced_and_nobody_is_refused(
    tmp_path: Path, redis_url: str
) -> None:
    """Of two edges one is asked to end: every new socket is opened, all the time."""
    redis_url = redis_url.removesuffix("/0") + "/8"
    leaving = Edge(tmp_path / "var", redis_url=redis_url, drain_s=1.0)
    staying = Edge(tmp_path / "other", redis_url=redis_url)
    staying.share(leaving)
    leaving.start()
    staying.start()
    (tmp_path / "nginx").mkdir()
    try:
        with _front(tmp_path / "nginx", backends=[leaving.port, staying.port]) as port:
            url = f"wss://127.0.0.1:{port}/{leaving.api_key}/ws"
            outcomes = asyncio.run(_while_it_leaves(url, leaving.process))
        # `least_conn` gave each edge half of them.
        assert sorted(outcomes) == ["1001"] * 3 + [PONG] * 3
    finally:
        for edge in (leaving, staying):
            edge.process.kill()
            edge.process.wait()


async def _while_it_leaves(url: str, leaving: subprocess.Popen[bytes]) -> list[str]:
    """What the six customers there before it met, when others have come all the time."""
    async with contextlib.AsyncExitStack() as stack:
        early = [await stack.enter_async_context(_customer(url)) for _ in range(6)]
        leaving.terminate()
        opened = 0
        while leaving.poll() is None or opened < 20:
            async with _customer(url) as late:
                assert await _ping(late) == PONG
            opened += 1
        return [await _ping(customer) for customer in early]


def _customer(url: str) -> connect:
    # Not the threaded client: it reads and writes one TLS socket from two threads at a time.
    return connect(url, ssl=trusting(), compression=None, open_timeout=DEADLINE_S)


async def _ping(customer: ClientConnection) -> str:
    try:
        await customer.send('{"method":"ping"}')
        async with asyncio.timeout(DEADLINE_S):
            return str(await customer.recv())
    except ConnectionClosed as closed:
        return str(closed.rcvd.code) if closed.rcvd else "cut"
