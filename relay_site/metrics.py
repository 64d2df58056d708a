"""Where Prometheus reads: `/metrics` on the web process, a port of its own on every other."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest, start_http_server

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def serve_metrics(port: int | None) -> None:
    """Serve this process's metrics on `RELAY_METRICS_HOST:port` from a daemon thread; None or 0
    serves nothing.

    Raises OSError when the port is taken.
    """
    if port:
        start_http_server(port, addr=settings.RELAY_METRICS_HOST)


def parse_networks(words: Sequence[str]) -> list[Network]:
    """Networks of `words` (`10.0.0.0/8`, `192.0.2.7`). Raises ValueError naming the bad one."""
    return [ipaddress.ip_network(word, strict=False) for word in words]


@functools.lru_cache(maxsize=8)
def _allowed(words: tuple[str, ...]) -> list[Network]:
    return parse_networks(words)


def may_read(peer: str, *, allow: Sequence[str] = ()) -> bool:
    """Whether a peer at the address `peer` may read metrics: loopback always, others when listed in
    `allow`.
    """
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or any(address in network for network in _allowed(tuple(allow)))


def metrics_view(request: HttpRequest) -> HttpResponse:
    """The web process's metrics, for those who may.

    A proxy on the same host comes from loopback too, so a request that names a client behind it is
    refused: a proxy that is to hand metrics on has no business forwarding them from outside.
    """
    is_forwarded = request.is_forwarded  # type: ignore[attr-defined]  # client_address.py
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if is_forwarded or not may_read(peer, allow=settings.RELAY_METRICS_ALLOW):
        return HttpResponse(status=404)
    return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)
