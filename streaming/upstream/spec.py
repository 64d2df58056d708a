"""`RELAY_UPSTREAMS`: which nodes and public feeds this relay reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from streaming.core.without_secrets import without_secrets

PARAMETERS = frozenset({"info", "exchange", "evm", "chain", "region", "weight"})
#: Of a gateway alone: files in PEM form. With none of them the connection is in the clear.
TLS_PARAMETERS = frozenset({"tls_ca", "tls_cert", "tls_key"})


#: Where the exchange serves JSON-RPC, by the host of its WebSocket.
_PUBLIC_EVM = {
    "api.hyperliquid.xyz": "https://rpc.hyperliquid.xyz/evm",
    "api.hyperliquid-testnet.xyz": "https://rpc.hyperliquid-testnet.xyz/evm",
}


class UpstreamKind(StrEnum):
    """How an upstream is read."""

    NODE = "node"  # files on this host
    GATEWAY = "gateway"  # an HL Gateway beside a node, over gRPC
    PUBLIC = "public"  # an official WebSocket
    SIMULATOR = "simulator"  # the supervisor starts one and puts its node in place of this


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS connection: who may have signed the other side's certificate, and our own
    certificate with its key (both or none). No `ca` means the authorities this system trusts."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """One upstream. `address` is the data folder of a node, the `host:port` of a gateway or the URL
    of a WebSocket; `info_url` ends in `/info`, `evm_url` in `/evm`, `exchange_url` in
    `/exchange`. `tls` None means in the
    clear."""

    kind: UpstreamKind
    address: str
    info_url: str | None = None
    chain: str = "mainnet"
    region: str = ""
    weight: int = 1
    tls: TlsFiles | None = None
    evm_url: str | None = None
    exchange_url: str | None = None

    def reads_as(self, other: UpstreamSpec) -> bool:
        """Whether the same is read in the same way: a weight, a region or what edges alone ask is
        no reason to cut a connection."""
        as_other = {
            name: getattr(other, name) for name in ("weight", "region", "evm_url", "exchange_url")
        }
        return replace(self, **as_other) == other


class BadUpstreams(ValueError):
    """Entries that cannot be read; `problems` has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_upstreams(text: str) -> list[UpstreamSpec]:
    """The upstreams in `text`, comma-separated. Raises BadUpstreams naming every bad entry."""
    specs, problems = [], []
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            continue
        try:
            specs.append(_parse(entry))
        except ValueError as error:
            problems.append(f"RELAY_UPSTREAMS: {without_secrets(entry)!r}: {error}")
    if not specs and not problems:
        problems.append(
            "RELAY_UPSTREAMS: empty; name at least one of node://DIR, gateway://HOST:PORT, "
            "wss://HOST/ws, simulator:"
        )
    if problems:
        raise BadUpstreams(problems)
    return specs


def _parse(entry: str) -> UpstreamSpec:
    try:
        url = urlsplit(entry)
        parameters = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
    except ValueError:  # whose text repeats the entry
        raise ValueError("not a URL with ?name=value&name=value") from None
    known = PARAMETERS | TLS_PARAMETERS if url.scheme == "gateway" else PARAMETERS
    if unknown := sorted(parameters.keys() - known):
        raise ValueError(f"unknown parameter {unknown[0]!r}; known are {', '.join(sorted(known))}")
    weight = parameters.get("weight", "1")
    if not weight.isdigit():
        raise ValueError(f"weight must be a whole number, not {weight!r}")
    chain = parameters.get("chain", "mainnet")
    if chain not in ("mainnet", "testnet"):
        raise ValueError(f"chain must be mainnet or testnet, not {chain!r}")
    common: dict[str, Any] = {
        "chain": chain,
        "region": parameters.get("region", ""),
        "weight": int(weight),
        "evm_url": _http_url("evm", parameters.get("evm", _PUBLIC_EVM.get(url.hostname or ""))),
        "exchange_url": _http_url("exchange", parameters.get("exchange")),
    }
    match url.scheme:
        case "node":
            folder = url.netloc + url.path
            if not folder.startswith("/"):
                raise ValueError("a node needs an absolute folder: node:///path/to/hl/data")
            return UpstreamSpec(
                UpstreamKind.NODE, folder, _http_url("info", parameters.get("info")), **common
            )
        case "gateway":
            return UpstreamSpec(
                UpstreamKind.GATEWAY,
                _host_port(url),
                _http_url("info", parameters.get("info")),
                tls=_tls(parameters),
                **common,
            )
        case "ws" | "wss":
            if not url.hostname:
                raise ValueError("a WebSocket needs a host: wss://api.hyperliquid.xyz/ws")
            address = f"{url.scheme}://{url.netloc}{url.path or '/ws'}"
            default = ("https" if url.scheme == "wss" else "http") + f"://{url.netloc}"
            info = _http_url("info", parameters.get("info", default))
            # Only the exchange's own hosts take orders; nodes do not.
            common["exchange_url"] = common["exchange_url"] or _http_url("exchange", default)
            return UpstreamSpec(UpstreamKind.PUBLIC, address, info, **common)
        case "simulator":
            return UpstreamSpec(UpstreamKind.SIMULATOR, url.netloc + url.path, **common)
        case _:
            raise ValueError(
                "unknown kind; use node://DIR, gateway://HOST:PORT, wss://HOST/ws, ws://HOST/ws "
                "or simulator:"
            )


def _host_port(url: SplitResult) -> str:
    try:
        port = url.port
    except ValueError:
        port = None
    if not url.hostname or not port or url.username is not None or url.path not in ("", "/"):
        raise ValueError("a gateway needs a host and a port: gateway://node1.example.org:50052")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{port}"


def _tls(parameters: dict[str, str]) -> TlsFiles | None:
    """The `tls_…` parameters; `tls_ca=system` means the authorities this system trusts."""
    given = {name: parameters[name] for name in TLS_PARAMETERS & parameters.keys()}
    if not given:
        return None
    ca = given.get("tls_ca")
    if ca == "system":
        ca = None
    files = TlsFiles(ca, given.get("tls_cert"), given.get("tls_key"))
    if (files.cert is None) != (files.key is None):
        raise ValueError("tls_cert and tls_key belong together")
    for path in (files.ca, files.cert, files.key):
        if path is not None and not path.startswith("/"):
            raise ValueError(f"a TLS file must be an absolute path, not {path!r}")
    return files


def _http_url(name: str, base: str | None) -> str | None:
    """The URL of a node's `/info` or `/evm`, or of `/exchange`, the last part added where it is
    missing."""
    if base is None:
        return None
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{name} must be an http(s) URL, not {without_secrets(base)!r}")
    return base if parts.path.rstrip("/").endswith(f"/{name}") else base.rstrip("/") + f"/{name}"


NODE_UPSTREAMS = frozenset({UpstreamKind.NODE, UpstreamKind.GATEWAY})


def named(specs: Sequence[UpstreamSpec]) -> dict[str, UpstreamSpec]:
    """The upstreams of a list by names made of their places in it, the same in every worker."""
    names: dict[str, UpstreamSpec] = {}
    nodes = [spec for spec in specs if spec.kind in NODE_UPSTREAMS]
    for number, spec in enumerate(nodes):
        names[f"{spec.kind}{number}"] = spec
    for number, spec in enumerate(spec for spec in specs if spec.kind is UpstreamKind.PUBLIC):
        names[f"public{number}"] = spec
    return names
