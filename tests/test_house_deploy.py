"""What is shipped for operators is accepted by its programs, and keeps keys out of logs."""

from __future__ import annotations

import configparser
import contextlib
import http.client
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay_site.processes import free_port
from tests.conftest import skip
from tests.support.relay import ROOT
from tests.support.services import Missing, find_binary, start_process, wait_until

KEY = "hlr_live_" + "Ab3" * 12 + "xy"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The shipped nginx.conf with the test's ports and folders: its TLS port and the folder."""
    try:
        binary = find_binary("nginx", package="nginx")
        openssl = find_binary("openssl", package="openssl")
    except Missing as missing:
        skip(str(missing))
        raise
    folder = tmp_path_factory.mktemp("nginx")
    make = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=x",
    ]
    pair = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run([*make, *pair], check=True, capture_output=True)
    tls, plain, backend = free_port(), free_port(), free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for shipped, ours in {
        r"/etc/ssl/hl-relay/": f"{folder}/",
        r"/var/log/nginx/": f"{folder}/",
        r"/run/hl-relay-nginx\.pid": f"{folder}/pid",
        r"listen \[::\].*;": "",
        r"listen 443 ": f"listen 127.0.0.1:{tls} ",
        r"listen 80;": f"listen 127.0.0.1:{plain};",
        r"127\.0\.0\.1:8000": f"127.0.0.1:{backend}",
        r"buffer=64k flush=5s": "",
        r"worker_connections 65536": "worker_connections 64",
        r"worker_rlimit_nofile .*;": "",
        r"worker_processes auto": "worker_processes 1",
        r"(?m)^http \{": f"daemon off;\nhttp {{\n    client_body_temp_path {folder}/body;\n"
        f"    proxy_temp_path {folder}/proxy;\n    fastcgi_temp_path {folder}/f;\n"
        f"    uwsgi_temp_path {folder}/u;\n    scgi_temp_path {folder}/s;",
    }.items():
        text, count = re.subn(shipped, ours, text)
        assert count, shipped
    (folder / "nginx.conf").write_text(text)
    command = [binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    log = folder / "out.log"
    process = start_process(command, log=log)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            ask(tls, "/livez")
            return True
        return False

    wait_until(answers, process=process, what="nginx", log=log)
    yield tls, folder
    process.terminate()
    process.wait(10)


def ask(port: int, path: str, *, referer: str = "") -> int:
    """The status of a GET over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        headers = {"Host": "relay.example.com"} | ({"Referer": referer} if referer else {})
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


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
