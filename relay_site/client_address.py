"""Who a request came from, said once for audit, lockout and rate limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from tenants.admission.access import parse_address
from tenants.admission.presented import peer_address

#: Who has an IPv6 address usually has 2**64 of them.
IPV6_PREFIX = 64
FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED")


def client_address(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: makes REMOTE_ADDR the caller's, also behind `RELAY_TRUSTED_PROXIES`, and takes
    away the headers in which anybody can claim another. `request.is_forwarded` remembers that
    there were some."""
    trusted = tuple(ipaddress.ip_network(text) for text in settings.RELAY_TRUSTED_PROXIES)

    def middleware(request: HttpRequest) -> HttpResponse:
        request.is_forwarded = any(name in request.META for name in FORWARDED)  # type: ignore[attr-defined]
        forwarded = str(request.META.pop("HTTP_X_FORWARDED_FOR", "")).encode("latin-1", "replace")
        request.META.pop("HTTP_X_FORWARDED_PORT", None)
        if peer := str(request.META.get("REMOTE_ADDR", "")):
            request.META["REMOTE_ADDR"] = peer_address(
                peer, [(b"x-forwarded-for", forwarded)] if forwarded else [], trusted=trusted
            )
        return get_response(request)

    return middleware


def lockout_address(request: HttpRequest) -> str | None:
    """What a lockout counts by: an IPv4 address, or an IPv6 network."""
    address = parse_address(str(request.META.get("REMOTE_ADDR", "")))
    if address is None:
        return None
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False).network_address)
