"""What the gRPC door is run with. Nothing of gRPC is loaded here: it starts threads, and a process
that only refuses its settings must not have any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenants.admission.principal import Network


class CannotListen(Exception):
    """The address or the TLS files are no good; one line for the operator."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With `client_ca`, only callers whose certificate it signed come in."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcConfig:
    """What an operator decides."""

    host: str
    port: int
    drain_s: float
    tls: Tls | None = None
    trusted_proxies: Sequence[Network] = ()


def tls_of(cert: str, key: str, client_ca: str) -> Tls | None:
    """The settings' texts as one value; None: in the clear."""
    if not cert or not key:
        return None
    return Tls(Path(cert), Path(key), Path(client_ca) if client_ca else None)


def tls_problems(cert: str, key: str, client_ca: str) -> Iterator[str]:
    """What is wrong with them, a line each."""
    if bool(cert) != bool(key):
        yield "RELAY_GRPC_TLS_CERT, RELAY_GRPC_TLS_KEY: they belong together, and one is missing"
    if client_ca and not cert:
        yield "RELAY_GRPC_TLS_CLIENT_CA: it needs RELAY_GRPC_TLS_CERT and RELAY_GRPC_TLS_KEY"
    for name, path in (
        ("RELAY_GRPC_TLS_CERT", cert),
        ("RELAY_GRPC_TLS_KEY", key),
        ("RELAY_GRPC_TLS_CLIENT_CA", client_ca),
    ):
        try:
            if path:
                with Path(path).open("rb"):
                    pass
        except OSError as error:
            yield f"{name}: cannot read {path} ({(error.strerror or str(error)).lower()})"
