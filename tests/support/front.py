"""The shipped nginx configuration in front of edges of ours."""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay_site.processes import free_port
from tests.support.edge import ROOT
from tests.support.services import find_binary, start_process, wait_until

SHIPPED = ROOT / "deploy" / "nginx.conf"


@contextlib.contextmanager
def front(folder: Path, *, backends: Sequence[int], grpc: int = 0) -> Iterator[int]:
    """Run it on a TLS port of loopback, which is given, its files in `folder`; `grpc` is the port
    of a gRPC process. Raises Missing."""
    binary = find_binary("nginx", package="nginx")
    _make_certificate(folder)
    port = free_port()
    backend = grpc or free_port()
    text = _localised(SHIPPED.read_text(), folder, port=port, backends=backends, grpc=backend)
    (folder / "nginx.conf").write_text(text)
    command = [binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    log = folder / "out.log"
    process = start_process(command, log=log)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            ask(port, "/livez")
            return True
        return False

    wait_until(answers, process=process, what="nginx", log=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


def ask(port: int, path: str, *, referer: str = "") -> int:
    """The status of a GET over TLS."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=trusting())
    try:
        headers = {"Host": "relay.example.com"} | ({"Referer": referer} if referer else {})
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@functools.cache
def trusting() -> ssl.SSLContext:
    """TLS that believes the front's own certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _make_certificate(folder: Path) -> None:
    openssl = find_binary("openssl", package="openssl")
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


def _localised(text: str, folder: Path, *, port: int, backends: Sequence[int], grpc: int) -> str:
    servers = "".join(f"server 127.0.0.1:{backend} max_fails=0;" for backend in backends)
    for shipped, ours in {
        r"/etc/ssl/hl-relay/": f"{folder}/",
        r"/var/log/nginx/": f"{folder}/",
        r"/run/hl-relay-nginx\.pid": f"{folder}/pid",
        r"listen \[::\].*;": "",
        r"listen 443 ": f"listen 127.0.0.1:{port} ",
        r"listen 80;": f"listen 127.0.0.1:{free_port()};",
        r"(?m)^ *server 127\.0\.0\.1:8000 max_fails=0;": servers,
        # So that tests of what may be slow need not be.
        r"client_body_timeout 10s": "client_body_timeout 1s",
        r"server 127\.0\.0\.1:50051": f"server 127.0.0.1:{grpc}",
        r"buffer=64k flush=5s": "",
        r"worker_connections 65536": "worker_connections 1024",
        r"worker_rlimit_nofile .*;": "",
        r"worker_processes auto": "worker_processes 1",
        r"(?m)^http \{": f"daemon off;\nhttp {{\n    client_body_temp_path {folder}/body;\n"
        f"    proxy_temp_path {folder}/proxy;\n    fastcgi_temp_path {folder}/f;\n"
        f"    uwsgi_temp_path {folder}/u;\n    scgi_temp_path {folder}/s;",
    }.items():
        text, count = re.subn(shipped, ours, text)
        assert count, shipped
    return text
