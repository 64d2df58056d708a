"""The command line of the gateway, for `manage.py run_hl_gateway` and `python -m
streaming.hl_gateway`: a node's host needs neither the relay's settings nor its secrets.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import start_http_server

from streaming.core.blocks import FileKind
from streaming.core.without_secrets import without_secrets
from streaming.hl_gateway.config import STALLED_S, CannotListen, GatewayConfig, Tls

MIN_MEMORY_MIB = 8


class BadOptions(Exception):
    """Options that contradict each other or cannot be used; one line for the operator."""


def add_arguments(parser: ArgumentParser) -> None:
    """All options, with their defaults."""
    parser.add_argument("--data", type=Path, required=True, help="the node's ~/hl/data")
    parser.add_argument("--info", help="the node's HTTP address, such as http://127.0.0.1:3001")
    parser.add_argument("--listen", default="127.0.0.1:50052", help="HOST:PORT; port 0: any")
    parser.add_argument("--kinds", default="", help="file kinds, comma-separated; all if not given")
    parser.add_argument(
        "--scratch",
        type=Path,
        help="folder the node can write checkpoints to; beside the data if not given",
    )
    parser.add_argument("--tls-cert", type=Path, help="our certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, help="its key (PEM)")
    parser.add_argument(
        "--tls-client-ca", type=Path, help="only callers with a certificate of this authority"
    )
    parser.add_argument(
        "--memory-mib", type=int, default=256, help="how much of the recent past is held"
    )
    parser.add_argument(
        "--stalled-s",
        type=float,
        default=STALLED_S,
        help="a reader that takes nothing for this long is cut",
    )
    parser.add_argument(
        "--metrics", type=int, default=0, help="port of /metrics on 127.0.0.1; 0: none"
    )


def config_of(options: dict[str, Any]) -> GatewayConfig:
    """The options as one value. Raises BadOptions."""
    data, info = options["data"].absolute(), options["info"]
    if not options["listen"].rpartition(":")[2].isdigit():
        raise BadOptions(f"--listen: HOST:PORT, not {options['listen']!r}")
    if options["memory_mib"] < MIN_MEMORY_MIB:
        raise BadOptions(f"--memory-mib: at least {MIN_MEMORY_MIB}")
    base = info.rstrip("/").removesuffix("/info") if info else None
    if base is not None and not base.startswith(("http://", "https://")):
        raise BadOptions(f"--info: an http address, not {without_secrets(info)!r}")
    return GatewayConfig(
        data_dir=data,
        listen=options["listen"],
        scratch=(options["scratch"] or data.parent / "hl_gateway_checkpoints").absolute(),
        info_url=f"{base}/info" if base else None,
        evm_url=f"{base}/evm" if base else None,
        kinds=_kinds(options["kinds"]),
        memory_bytes=options["memory_mib"] * 1024 * 1024,
        stalled_s=options["stalled_s"],
        tls=_tls(options["tls_cert"], options["tls_key"], options["tls_client_ca"]),
    )


def run(options: dict[str, Any], *, say: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT. `say` gets one line once it listens.

    Raises:
        BadOptions: nothing was started.
        CannotListen: the port is taken, or a TLS file is no good.
    """
    config = config_of(options)
    if options["metrics"]:
        try:
            start_http_server(options["metrics"], addr="127.0.0.1")
        except OSError as error:
            raise BadOptions(f"--metrics: port {options['metrics']}: {error.strerror}") from error
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(config, say))


def _may_listen(address: str) -> None:
    """Whether the address is free, asked before gRPC's threads are there: a process that ends with
    a refused port can abort in one of them. Raises CannotListen."""
    host, _, port = address.rpartition(":")
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as asked:
                asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    asked.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                asked.bind(where)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}: {error.strerror}") from error


async def _serve(config: GatewayConfig, say: Callable[[str], object]) -> None:
    _may_listen(config.listen)
    from streaming.hl_gateway.server import Gateway  # with gRPC's threads: see config.py

    gateway = Gateway(config)
    task = asyncio.ensure_future(gateway.run())
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    ready = asyncio.ensure_future(gateway.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if gateway.ready.is_set():
        host = config.listen.rpartition(":")[0]
        guard = "in the clear" if config.tls is None else "with TLS"
        say(f"hl gateway of {config.data_dir} listens on {host}:{gateway.port}, {guard}")
    try:
        await task
    except ExceptionGroup as group:
        raise group.exceptions[0] if len(group.exceptions) == 1 else group from None


def _kinds(text: str) -> tuple[FileKind, ...]:
    if not text:
        return tuple(FileKind)
    try:
        return tuple(dict.fromkeys(FileKind(name.strip()) for name in text.split(",")))
    except ValueError as error:
        raise BadOptions(f"--kinds: {error}; known are {', '.join(FileKind)}") from error


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    if (cert is None) != (key is None):
        raise BadOptions("--tls-cert and --tls-key belong together")
    if cert is None or key is None:
        if client_ca is not None:
            raise BadOptions("--tls-client-ca needs --tls-cert and --tls-key")
        return None
    return Tls(cert, key, client_ca)


def main() -> int:
    """The command without Django: 2 for bad options, 1 when it cannot listen."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    parser = argparse.ArgumentParser(prog="python -m streaming.hl_gateway", description=__doc__)
    add_arguments(parser)
    try:
        run(vars(parser.parse_args()), say=lambda line: print(line, flush=True))
    except (BadOptions, CannotListen) as error:
        print(error, flush=True)
        return 2 if isinstance(error, BadOptions) else 1
    return 0
