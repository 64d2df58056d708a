"""Whether a key opens a door to a caller at a moment. Pure: no clock, no server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tenants.admission.errors import (
    AddressNotAllowed,
    Denied,
    InvalidKey,
    OriginNotAllowed,
    ScopeMissing,
)
from tenants.admission.principal import Network, Principal
from tenants.said import Said
from tenants.said import gettext_noop as _

_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from, as the edge knows it.

    `address` is the peer's, "" where it has none; `origin` is its `Origin` header in lower case,
    None where it sent none, as programs do.
    """

    address: str = ""
    origin: str | None = None


#: Fits no list: a door that does not say who asks opens for keys without lists alone.
NOBODY = Caller()


def refusal(principal: Principal, caller: Caller, *, scope: str, now: datetime) -> Denied | None:
    """Why `principal` may not use the door `scope`, or None: let in.

    An empty list allows everybody. The same question is asked again about what is open when a key
    changes, so an answer must depend on nothing else.
    """
    if principal.is_expired(now):
        return InvalidKey()
    if principal.networks and not is_within(caller.address, principal.networks):
        return AddressNotAllowed(caller.address)
    if principal.origins and caller.origin not in principal.origins:
        return OriginNotAllowed()
    if scope not in principal.scopes:
        return ScopeMissing(scope)
    return None


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether `address` is one and in any of `networks`."""
    parsed = parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in `text`, None when there is none. `::ffff:192.0.2.1` is `192.0.2.1`: a socket
    that listens on both names IPv4 peers so."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> Network:
    """`192.0.2.0/24`, `2001:db8::/32`, or one address. Raises Said, a line for whoever typed it."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise Said(
            _("'%(text)s' is no address and no network (192.0.2.7, 192.0.2.0/24, 2001:db8::/32)"),
            text=text,
        ) from None
    first = text.strip().partition("/")[0]
    if ipaddress.ip_address(first) != network.network_address:
        # A slip in the length would open the key to 16 million addresses instead of 256.
        raise Said(
            _("'%(text)s' has bits set beyond its length; the network is %(network)s"),
            text=text,
            network=network,
        )
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise Said(_("'%(text)s' stands for IPv4; write it as such"), text=text)
    return network


def parse_origin(text: str) -> str:
    """`https://desk.example` as browsers send it: lower case, without a default port. Raises
    Said, a line for whoever typed it."""
    found = _ORIGIN.fullmatch(text.strip().lower())
    if found is None or int(found[3] or 1) > 65_535:
        raise Said(
            _("'%(text)s' is no origin (https://desk.example or http://localhost:3000)"), text=text
        )
    scheme, host, port = found.groups()
    if port is None or int(port) == _DEFAULT_PORT[scheme]:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}"
