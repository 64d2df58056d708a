"""Where customers connect to, as their pages and snippets say it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Addresses:
    """`http` and `ws` are base addresses without a key or a slash at the end; `grpc` is host:port,
    spoken to with TLS where `is_grpc_tls`."""

    http: str
    ws: str
    grpc: str
    is_grpc_tls: bool


def addresses(request: HttpRequest) -> Addresses:
    """What this relay is reached at from outside: `RELAY_PUBLIC_URL`, else as the browser asked."""
    public = settings.RELAY_PUBLIC_URL
    base = (
        public
        if public.startswith(("http://", "https://"))
        else f"{request.scheme}://{request.get_host()}"
    )
    parts = urlsplit(base)
    return Addresses(
        http=base,
        ws=base.replace("http", "ws", 1),
        grpc=f"{parts.hostname}:{settings.RELAY_GRPC_PORT}",
        is_grpc_tls=bool(settings.RELAY_GRPC_TLS_CERT) or parts.scheme == "https",
    )
