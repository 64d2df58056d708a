"""Addresses as they may be shown: on a page, in a log, in a heartbeat."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

HIDDEN = "…"
#: Parts of a path that everybody knows; anything else may be a key.
_OPEN_PARTS = frozenset({"", "ws", "info", "evm", "exchange"})
_OPEN_PARAMETERS = frozenset({"chain", "region", "weight", "tls_ca", "tls_cert", "tls_key"})
_URL_PARAMETERS = frozenset({"info", "exchange", "evm"})
#: Their path is a folder.
_FOLDERS = frozenset({"node", "simulator"})


def without_secrets(address: str) -> str:
    """The address without its password, and without what may be a key in its path or its query.

    A folder and a `host:port` stay as they are.
    """
    scheme, mark, _ = address.partition("://")
    if not mark:
        before, at, host = address.rpartition("@")
        return f"{HIDDEN}@{host}" if at and not before.startswith("/") else address
    try:
        url = urlsplit(address)
        parameters = parse_qsl(url.query, keep_blank_values=True)
    except ValueError:
        return f"{scheme}://{HIDDEN}"
    _, at, host = url.netloc.rpartition("@")
    path = url.path if url.scheme in _FOLDERS else "/".join(map(_part, url.path.split("/")))
    query = "&".join(_parameter(name, value) for name, value in parameters)
    return f"{scheme}://{HIDDEN + '@' if at else ''}{host}{path}{'?' + query if query else ''}"


def entries_without_secrets(text: str) -> str:
    """The same of `RELAY_UPSTREAMS`."""
    return ",".join(without_secrets(entry.strip()) for entry in text.split(","))


def _part(part: str) -> str:
    return part if part in _OPEN_PARTS else HIDDEN


def _parameter(name: str, value: str) -> str:
    if name in _URL_PARAMETERS:
        return f"{name}={without_secrets(value) if '://' in value else HIDDEN}"
    if name in _OPEN_PARAMETERS:
        return f"{name}={value}"
    # One without a value may be the key itself.
    return f"{name}={HIDDEN}" if value else HIDDEN
