"""Where a customer may put their key in an HTTP or WebSocket request."""

from __future__ import annotations

from collections.abc import Iterable


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
    """The raw key of a request: path segment, else `X-API-Key`, else `Authorization: Bearer`; None
    when there is none.

    Header names are lower case, as ASGI has them.
    """
    if path_key is not None:
        return path_key
    bearer = None
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].decode("latin-1").strip()
    return bearer
