"""`RELAY_UPSTREAMS`: which nodes and public feeds this relay reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PARAMETERS = frozenset({"info", "exchange", "evm", "chain", "region", "weight"})


class UpstreamKind(StrEnum):
    """How an upstream is read."""

    NODE = "node"  # files on this host
    PUBLIC = "public"  # an official WebSocket
    SIMULATOR = "simulator"  # the supervisor starts one and puts its node in place of this


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """One upstream. `address` is the data folder of a node or the URL of a WebSocket; `info_url`
    ends in `/info`."""

    kind: UpstreamKind
    address: str
    info_url: str | None = None
    chain: str = "mainnet"
    region: str = ""
    weight: int = 1


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
            problems.append(f"RELAY_UPSTREAMS: {entry!r}: {error}")
    if not specs and not problems:
        problems.append(
            "RELAY_UPSTREAMS: empty; name at least one of node://DIR, wss://HOST/ws, simulator:"
        )
    if problems:
        raise BadUpstreams(problems)
    return specs


def _parse(entry: str) -> UpstreamSpec:
    url = urlsplit(entry)
    parameters = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
    if unknown := sorted(parameters.keys() - PARAMETERS):
        raise ValueError(
            f"unknown parameter {unknown[0]!r}; known are {', '.join(sorted(PARAMETERS))}"
        )
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
    }
    match url.scheme:
        case "node":
            folder = url.netloc + url.path
            if not folder.startswith("/"):
                raise ValueError("a node needs an absolute folder: node:///path/to/hl/data")
            return UpstreamSpec(
                UpstreamKind.NODE, folder, _info_url(parameters.get("info")), **common
            )
        case "ws" | "wss":
            if not url.hostname:
                raise ValueError("a WebSocket needs a host: wss://api.hyperliquid.xyz/ws")
            address = f"{url.scheme}://{url.netloc}{url.path or '/ws'}"
            default = ("https" if url.scheme == "wss" else "http") + f"://{url.netloc}"
            info = _info_url(parameters.get("info", default))
            return UpstreamSpec(UpstreamKind.PUBLIC, address, info, **common)
        case "simulator":
            return UpstreamSpec(UpstreamKind.SIMULATOR, url.netloc + url.path, **common)
        case _:
            raise ValueError(
                "unknown kind; use node://DIR, wss://HOST/ws, ws://HOST/ws or simulator:"
            )


def _info_url(base: str | None) -> str | None:
    if base is None:
        return None
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"info must be an http(s) URL, not {base!r}")
    return base if parts.path.rstrip("/").endswith("/info") else base.rstrip("/") + "/info"
