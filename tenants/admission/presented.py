"""What an HTTP or WebSocket request says of its key, and of who sends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tenants.admission.access import Caller, is_within, parse_address
from tenants.admission.principal import Network

#: Before a key among the subprotocols that a WebSocket asks for.
KEY_PROTOCOL = "hlrelay.key."


def split_path(path: str) -> tuple[str | None, str]:
    """`/<key>/ws` → (key, "/ws"); `/ws` → (None, "/ws"). Repeated and trailing slashes are
    forgiven.

    Clients that join a base URL and a path by hand make `//info` out of a base that ends in a
    slash.
    """
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 2:
        return parts[0], "/" + "/".join(parts[1:])
    return None, "/" + "".join(parts)


def presented_key(path_key: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The raw key of a request: path segment, else `X-API-Key`, else `Authorization: Bearer`, else
    the subprotocol `hlrelay.key.<key>`, as a browser can name one without writing it into an
    address; None when there is none.

    Header names are lower case, as ASGI has them.
    """
    if path_key is not None:
        return path_key
    bearer = protocol = None
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].decode("latin-1").strip()
        if name == b"sec-websocket-protocol":
            asked = [part.strip() for part in value.decode("latin-1").split(",")]
            keys = (
                part.removeprefix(KEY_PROTOCOL) for part in asked if part.startswith(KEY_PROTOCOL)
            )
            protocol = next(keys, protocol)
    return bearer or protocol


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Who sends an ASGI request: its `client`, which the server has made sure of, and its
    `Origin`."""
    client = scope.get("client")
    # Several are one that nobody has on a list.
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    return Caller(
        address=str(client[0]) if client else "",
        origin=b", ".join(origins).decode("latin-1").strip().lower() if origins else None,
    )


def peer_address(
    peer: str, headers: Iterable[tuple[bytes, bytes]], *, trusted: Sequence[Network]
) -> str:
    """The address a request came from: `peer`, or, behind trusted proxies, what they say.

    Each proxy appends whom it heard to `X-Forwarded-For`, so it is read from its end, and the first
    that is not a trusted proxy is the caller: what stands before it, anybody can have written.
    """
    hops = b",".join(value for name, value in headers if name == b"x-forwarded-for").split(b",")
    while hops and is_within(peer, trusted):
        said = parse_address(hops.pop().decode("latin-1").strip())
        if said is None:
            break
        peer = str(said)
    return peer
