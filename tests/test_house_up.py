"""`manage.py up`: refuses clearly, serves, restarts what dies, stops all, leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay_site.processes import free_port
from tests.clients.environments import python_environment
from tests.support.environment import VAR
from tests.support.relay import ROOT, RunningRelay

pytestmark = pytest.mark.timeout(300)


def eventually(is_true: Callable[[], bool], *, within_s: float) -> bool:
    """Whether `is_true` becomes so before the deadline."""
    deadline_s = time.monotonic() + within_s
    while not is_true():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def processes_of(var: Path) -> dict[int, str]:
    """Every process of the relay in `var`, children's children too: pid and command line."""
    mark = f"RELAY_VAR={var}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (process / "environ").read_bytes().split(b"\0")
            # Redis writes its title over its environment. A zombie has neither: it is dead, and its
            # parent has not looked yet.
            if mark in environment or f"{var}/" in command:
                found[int(process.name)] = command
    return found


def status(url: str) -> int:
    """The status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


# --- refusing -------------------------------------------------------------------------------------


def refused(**variables: str) -> list[str]:
    """The lines of a start that must refuse."""
    relay = RunningRelay(VAR / "refused", **variables)
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up"],
        env=relay.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def test_all_problems_at_once_before_anything_is_bound(tmp_path: Path) -> None:
    """A port in use (with its holder), a bad number, a bad upstream, an unwritable folder."""
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        lines = refused(
            RELAY_VAR=str(tmp_path / "file" / "var"),
            RELAY_HTTP_PORT=str(port),
            RELAY_DRAIN_S="soon",
            RELAY_UPSTREAMS="ftp://x, node://relative",
            RELAY_HTTP_PROT="8000",
            RELAY_HTTP_EDGE_PORT=str(port),
        )
    text = "\n".join(lines)
    assert f"RELAY_HTTP_PORT: port {port} on 127.0.0.1: address already in use" in text
    assert f"pid {os.getpid()}" in text
    taken = f"RELAY_HTTP_EDGE_PORT: {port} is another's port already (RELAY_HTTP_PORT)"
    assert taken in lines
    assert "RELAY_DRAIN_S: 'soon' is not a number" in text
    assert f"RELAY_VAR: cannot write to {tmp_path}/file/var" in text
    assert sum(line.startswith("RELAY_UPSTREAMS:") for line in lines) == 2
    assert "warning: RELAY_HTTP_PROT: unknown setting, ignored" in lines
    assert len(lines) == 7


def test_production_refuses_the_embedded_services(tmp_path: Path) -> None:
    """Neither SQLite nor the bundled Redis, nor a made-up secret."""
    lines = refused(RELAY_VAR=str(tmp_path / "var"), RELAY_ENV="production")
    names = {line.partition(":")[0] for line in lines}
    assert names >= {"SECRET_KEY", "RELAY_ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL"}
    assert not (tmp_path / "var" / "secrets").exists()


class Browser:
    """A visitor of the relay at `base`, with cookies, who reads the pages it posts to first."""

    def __init__(self, base: str) -> None:
        self.base, jar = base, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

    def get(self, path: str) -> tuple[str, str]:
        """Where it ended up, and the page."""
        with self._opener.open(self.base + path, timeout=30) as answer:
            return str(answer.url).removeprefix(self.base), answer.read().decode()

    def post(self, path: str, **fields: str) -> tuple[str, str]:
        """The same, for a form."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path)[1])
        assert token is not None
        fields["csrfmiddlewaretoken"] = token.group(1)
        data = urllib.parse.urlencode(fields).encode()
        with self._opener.open(self.base + path, data, timeout=30) as answer:
            return str(answer.url).removeprefix(self.base), answer.read().decode()


def plan_of(relay: RunningRelay, company: str) -> str:
    """The code of the plan a tenant is on, and the version of its prices."""
    code = (
        "from tenants.models import PlanSubscription as P;"
        f"s = P.objects.get(tenant__name={company!r}, is_current=True);"
        "print(s.plan.code, s.version)"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code],
        env=relay.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


# --- running --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> Iterator[RunningRelay]:
    """A relay that this module's tests kill and start again, one after the other."""
    ports = {name: str(free_port()) for name in ("RELAY_HTTP_PORT", "RELAY_HTTP_EDGE_PORT")}
    relay = RunningRelay(VAR / "own", **ports)
    relay.start()
    yield relay
    if relay.process.poll() is None:
        relay.stop()


@pytest.mark.relay
class TestLife:
    """In this order."""

    def test_run_json(self, own: RunningRelay) -> None:
        """Everything a client needs, for its owner's eyes only."""
        path = own.var / "run.json"
        assert path.stat().st_mode & 0o777 == 0o600
        run = json.loads(path.read_text())
        assert run["ws"] == f"ws{run['http'][4:]}/{run['api_key']}/ws"
        assert run["admin_url"] == f"{run['http']}/admin/"
        assert run["grpc"].startswith("127.0.0.1:")
        assert run["admin_user"]
        assert run["admin_password"]
        assert set(run["metrics"]) == {
            "web",
            "http_edge",
            "upstream",
            "upstream-2",
            "simulator",
            "grpc",
            "jobs",
        }

    def test_everything_serves(self, own: RunningRelay) -> None:
        """Readiness, the landing page and every process's metrics."""
        run = own.run
        for path in ("/", "/livez", "/readyz", "/admin/login/"):
            assert status(run["http"] + path) == 200, path
        assert status(run["http_edge"] + "/readyz") == 200
        for name, url in run["metrics"].items():
            assert status(url) == 200, name

    def test_summary_is_short_and_its_snippet_works(self, own: RunningRelay) -> None:
        """The two lines, as they are printed, in the python SDK."""
        lines = own.output.splitlines()
        begin = next(i for i, line in enumerate(lines) if "from hyperliquid.info" in line)
        snippet = "\n".join(line.strip() for line in lines[begin : begin + 2])
        python = str(python_environment("python_sdk"))
        child = subprocess.Popen(
            [python, "-u", "-c", snippet], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            assert b"'channel': 'l2Book'" in line, line
            assert b"BTC" in line
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def test_who_signs_up_is_on_the_free_plan(self, own: RunningRelay) -> None:
        """On a fresh folder, through the pages, with nothing done by an operator before."""
        visitor = Browser(own.run["http"])
        form = {"email": "dora@example.com", "company": "Dora Trading", "terms": "on"}
        password = "a long and odd one"
        where, _ = visitor.post("/accounts/signup/", **form, password1=password, password2=password)
        assert where == "/accounts/confirm-email/"
        (mail,) = (own.var / "mail").iterdir()
        code = re.search(r"(?m)^\s*([A-Z0-9]{3,4}-[A-Z0-9]{3,4})\s*$", mail.read_text())
        assert code is not None
        where, _ = visitor.post("/accounts/confirm-email/", code=code.group(1))
        assert where == "/app/dora-trading/start/"
        assert plan_of(own, "Dora Trading") == "free 1"

    def test_the_printed_operator_gets_in(self, own: RunningRelay) -> None:
        """By the name and password of the summary, without more."""
        visitor, run = Browser(own.run["http"]), own.run
        login = {"username": run["admin_user"], "password": run["admin_password"]}
        where, page = visitor.post("/admin/login/?next=/admin/", **login)
        assert where == "/admin/"
        assert "Cockpit" in page

    def test_second_one_is_refused(self, own: RunningRelay) -> None:
        """Two supervisors in one folder would start everything twice."""
        lines = refused(RELAY_VAR=str(own.var))
        assert len(lines) == 1
        assert f"(pid {own.pid})" in lines[0]

    def test_what_dies_is_started_again(self, own: RunningRelay) -> None:
        """Each child, killed; the supervisor says so and serves again."""
        before = json.loads((own.var / "run.json").read_text())["processes"]
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def is_back() -> bool:
            now = json.loads((own.var / "run.json").read_text())["processes"]
            fresh = all(now[name] and now[name] != pid for name, pid in before.items())
            serving = [status(url) == 200 for url in own.run["metrics"].values()]
            return fresh and all(serving) and status(own.run["http"] + "/readyz") == 200

        assert eventually(is_back, within_s=90), own.output[-2000:]
        for name in before:
            assert f"{name} died (SIGKILL); starting it again" in own.output
        # A killed worker's own child, the beat, must not be left over beside the new one.
        assert sum("celery" in command for command in processes_of(own.var).values()) == 2

    def test_kill_minus_nine_leaves_no_orphans(self, own: RunningRelay) -> None:
        """Not the children, nor the children's children."""
        assert len(processes_of(own.var)) >= 7
        os.kill(own.pid, signal.SIGKILL)
        own.process.wait(5)
        assert eventually(lambda: not processes_of(own.var), within_s=5), processes_of(own.var)

    def test_starts_again_with_its_data(self, own: RunningRelay) -> None:
        """The same key and password, over a run.json and a socket that were left behind."""
        first: dict[str, Any] = own.run
        assert (own.var / "run.json").exists()
        own.start()
        for name in ("api_key", "admin_user", "admin_password", "http", "ws"):
            assert own.run[name] == first[name], name
        assert status(own.run["http"] + "/readyz") == 200

    def test_no_key_in_any_log(self, own: RunningRelay) -> None:
        """Neither in the children's logs nor in their command lines."""
        for path in ("/nothing", "/info", "/ws"):
            status(f"{own.run['http']}/{own.run['api_key']}{path}")
        secret = own.run["api_key"][12:]
        for log in (own.var / "logs").iterdir():
            assert secret not in log.read_text("utf-8", "replace"), log.name
        assert all(secret not in command for command in processes_of(own.var).values())

    def test_sigterm_stops_everything(self, own: RunningRelay) -> None:
        """Exit code 0, run.json gone, nothing running."""
        assert own.stop() == 0
        assert not (own.var / "run.json").exists()
        assert processes_of(own.var) == {}
