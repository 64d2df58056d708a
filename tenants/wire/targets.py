"""Where we may send to for somebody else: what is wrong with a URL, and with an address. Pure.

A tenant's URL must not reach what only we can reach: our host, our network, a cloud's metadata. A
name says nothing about that, so the addresses it stands for are judged, all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

from tenants.said import Said
from tenants.said import gettext_noop as _

MAX_URL_CHARS = 500
#: Below it are the ports of services that are no web servers: mail, SSH, DNS.
FIRST_FREE_PORT = 1024

Address = IPv4Address | IPv6Address

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Global by the registry or by this Python, and yet nobody's web server: relays of 6to4, Teredo,
# documentation (whose newest block Python 3.11 does not know).
_NEVER = tuple(
    ip_network(text) for text in ("192.88.99.0/24", "2002::/16", "2001::/32", "3fff::/20")
)
# What `allow_private` allows: loopback, RFC 1918, the carriers' 100.64/10 (VPNs use it), and fc00.
# Never link-local: 169.254.169.254 hands out a cloud's credentials.
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7"),
    )
)
# A host whose last label is a number is an IPv4 address to many resolvers: `127.1`, `2130706433`,
# `0x7f.1`, `0177.0.0.1`. We take only the one plain spelling.
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$")
_AUTHORITY = re.compile(r"[/?#]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_PRIVATE_IS_OFF = _(
    "the host has an address we do not send to: private (RELAY_WEBHOOKS_PRIVATE is off)"
)


class TargetRefused(Said):
    """A URL or an address we do not send to. Its text is one line for who gave it."""


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What may be reached. `allow_private`: also plain http, any port, and private addresses."""

    allow_private: bool = False

    def check_url(self, text: str) -> URL:
        """The URL that will be asked. Judges everything but what its name resolves to.

        Raises TargetRefused.
        """
        if len(text) > MAX_URL_CHARS:
            raise TargetRefused(
                _("the URL has %(count)s characters; at most %(most)s"),
                count=len(text),
                most=MAX_URL_CHARS,
            )
        # Parsers differ on these, and each difference has been somebody's way in.
        if not text.isprintable() or any(char in text for char in " \\"):
            raise TargetRefused(_("the URL holds a space, backslash or control character"))
        try:
            url = URL(text)
            host, port = url.host or "", url.port
        except ValueError:
            raise TargetRefused(_("not a URL (https://host/path)")) from None
        if url.scheme != "https" and not (self.allow_private and url.scheme == "http"):
            if not url.scheme:
                raise TargetRefused(_("the scheme must be https, not none"))
            raise TargetRefused(
                _("the scheme must be https, not %(scheme)s"), scheme=url.scheme[:20]
            )
        if not host:
            raise TargetRefused(_("the URL names no host"))
        if "@" in _AUTHORITY.split(text.partition("//")[2], maxsplit=1)[0]:
            raise TargetRefused(_("no user or password in the URL (before an @)"))
        if url.fragment or text.endswith("#"):
            raise TargetRefused(_("no fragment (#…) in the URL: it would not be sent"))
        self._check_port(port)
        self._check_host(host, url.raw_host or "")
        return url

    def _check_port(self, port: int | None) -> None:
        if not port or not (self.allow_private or port == 443 or port >= FIRST_FREE_PORT):
            raise TargetRefused(
                _("port %(port)s: 443, or %(first)s and above"), port=port, first=FIRST_FREE_PORT
            )

    def _check_host(self, host: str, raw_host: str) -> None:
        if "%" in host:
            raise TargetRefused(_("no zone (%) in an address"))
        try:
            address = ip_address(host)
        except ValueError:
            if _ENDS_IN_A_NUMBER.search(host):
                raise TargetRefused(_("an address must be written plainly (192.0.2.1)")) from None
            # What goes into DNS, SNI and Host: the ASCII form.
            if len(raw_host) > 253 or not _NAME.fullmatch(raw_host):
                raise TargetRefused(_("the host is no host name")) from None
            return
        self.check_address(str(address))

    def check_address(self, text: str) -> None:
        """Raises TargetRefused unless a connection to this address may be opened."""
        if (why := self._refusal(text)) is not None:
            # Not the address: an answer must not tell what our DNS knows.
            raise TargetRefused(why)

    def check_addresses(self, texts: Iterable[str]) -> list[str]:
        """All of them, each once, in their order. One bad one refuses the host: a name that stands
        for a good and a bad address was made to get past a check.

        Raises TargetRefused, also for none.
        """
        addresses = list(dict.fromkeys(texts))
        if not addresses:
            raise TargetRefused(_("the host name has no address"))
        for text in addresses:
            self.check_address(text)
        return addresses

    def _refusal(self, text: str) -> str | None:
        try:
            address = _plain(ip_address(text.partition("%")[0]))
        except ValueError:
            return _("the host has an address we do not send to: unreadable")
        if address.is_link_local:
            return _("the host has an address we do not send to: link-local")
        if any(address in network for network in _PRIVATE if network.version == address.version):
            return None if self.allow_private else _PRIVATE_IS_OFF
        if not _is_public(address):
            return _("the host has an address we do not send to: reserved")
        return None


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it stands for one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:  # what DNS answers on a network without IPv4
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in _UNICAST:
        return False
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
