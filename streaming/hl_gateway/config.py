"""What a gateway is run with. Nothing of gRPC is loaded here: it starts threads, and a process that
only refuses its options must not have any.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from streaming.core.blocks import FileKind

#: A reader that takes nothing for this long is cut.
STALLED_S = 10.0


class CannotListen(Exception):
    """The address or the TLS files are no good; one line for the operator."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With `client_ca`, only callers whose certificate it signed come in."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What an operator decides. `memory_bytes` bounds the blocks held; the process needs about
    120 MB besides. `scratch` must be a folder that the node can write to.
    """

    data_dir: Path
    listen: str
    scratch: Path
    info_url: str | None = None
    evm_url: str | None = None
    kinds: Collection[FileKind] = tuple(FileKind)
    memory_bytes: int = 256 * 1024 * 1024
    stalled_s: float = STALLED_S
    tls: Tls | None = None
