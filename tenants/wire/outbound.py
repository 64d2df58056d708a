"""HTTP to where a tenant says, without reaching what only we can reach.

The name is resolved once and all its addresses judged (`targets.py`); the connection goes to one of
those, with the name in SNI, certificate check and Host, and the address is judged again as the
socket is made. No redirects, no proxies or credentials of the environment, no cookies, no
decompression; one deadline over name, connection, TLS, request and answer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tenants.wire.targets import TargetPolicy, TargetRefused

DEADLINE_S = 5.0
#: Of an answer's body: enough to see what it is, and all that is ever read.
EXCERPT_CHARS = 200
_READ_BYTES = 4 * EXCERPT_CHARS

#: (host, port) → addresses as text; may block, raises OSError.
Resolve = Callable[[str, int], Sequence[str]]


class NoAnswer(Exception):
    """Nobody answered. The text is one line for the tenant: it names no address of ours."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `excerpt` is the printable beginning of the body."""

    status: int
    excerpt: str
    latency_ms: int


def system_resolve(host: str, port: int) -> list[str]:
    """What the host's resolver says, IPv4 and IPv6. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    policy: TargetPolicy,
    deadline_s: float = DEADLINE_S,
    resolve: Resolve = system_resolve,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send once, and read the beginning of the answer, whatever its status.

    Raises TargetRefused before anything is sent, NoAnswer for everything that went wrong after.
    """
    target = policy.check_url(url)
    began = time.monotonic()
    status, body_began = 0, bytearray()
    try:
        async with asyncio.timeout(deadline_s):
            addresses = policy.check_addresses(
                await _resolved(resolve, target.host or "", target.port or 443)
            )
            session = _session(addresses, policy=policy, tls=tls)
            async with (
                session,
                session.post(
                    target, data=body, headers=dict(headers), allow_redirects=False
                ) as answer,
            ):
                status = answer.status
                await _read_beginning(answer, into=body_began)
    except (TimeoutError, OSError, aiohttp.ClientError) as error:
        if not status:
            raise NoAnswer(_why(error, deadline_s)) from None
        # The status has come; a body that drips, breaks off or lies is cut, and nothing is lost.
    latency_ms = round((time.monotonic() - began) * 1_000)
    return Answer(status, _printable(body_began), latency_ms)


def _why(error: Exception, deadline_s: float) -> str:
    """One line without an address: the error's own text names where we connected to."""
    match error:
        case TimeoutError():
            return f"no answer within {deadline_s:g} s"
        case socket.gaierror():
            return "the host name does not resolve"
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "")
            return f"the certificate was refused: {reason or 'not valid for the host'}"[:200]
        case aiohttp.ClientSSLError():
            return "no TLS connection"
        case aiohttp.ClientConnectorError():
            return "no connection"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
    return "the connection was closed before an answer"


def _session(
    addresses: Sequence[str], *, policy: TargetPolicy, tls: ssl.SSLContext | None
) -> aiohttp.ClientSession:
    def checked_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        # The last gate, for whatever got here without our resolver, such as an address in the URL.
        try:
            policy.check_address(str(address[0]))
        except TargetRefused as refused:  # who connects tries the next address after an OSError
            raise PermissionError(str(refused)) from refused
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=_Pinned(addresses),
        use_dns_cache=False,
        force_close=True,
        ssl=tls or True,
        socket_factory=checked_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),  # ours is around it all
    )


class _Pinned(AbstractResolver):
    """Answers with the addresses that were judged, whoever is asked about meanwhile."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _resolved(resolve: Resolve, host: str, port: int) -> Sequence[str]:
    """`resolve` in a thread that nobody waits for once the deadline has passed: the loop's own
    executor would be joined at its end, however long DNS takes."""
    found: Future[Sequence[str]] = Future()

    def ask() -> None:
        try:
            answer = resolve(host, port)
        except Exception as error:  # the waiter's to tell
            if not found.cancelled():
                found.set_exception(error)
        else:
            if not found.cancelled():
                found.set_result(answer)

    found.set_running_or_notify_cancel()  # so that giving up cannot race with the answer
    threading.Thread(target=ask, name="resolve", daemon=True).start()
    return await asyncio.wrap_future(found)


async def _read_beginning(answer: aiohttp.ClientResponse, *, into: bytearray) -> None:
    """What follows is never read: the connection is closed."""
    while len(into) < _READ_BYTES:
        if not (piece := await answer.content.read(_READ_BYTES - len(into))):
            break
        into += piece
    answer.close()


def _printable(data: bytes | bytearray) -> str:
    text = data.decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text)[:EXCERPT_CHARS]
