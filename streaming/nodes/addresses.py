"""What an operator may write as the address of an upstream, in the one form we keep. Pure."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_HOST_PORT = re.compile(r"(?P<host>[0-9A-Za-z_.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})\Z")
#: `RELAY_UPSTREAMS` is comma-separated and its entries are URLs.
_FORBIDDEN = re.compile(r"[\s,?#]")


def node_folder(text: str) -> str:
    """An absolute folder, with or without `node://` before it. Raises ValueError."""
    folder = text.strip().removeprefix("node://")
    if not folder.startswith("/"):
        raise ValueError("Write the absolute folder of the node's data: /path/to/hl/data")
    if _FORBIDDEN.search(folder):
        raise ValueError("The folder may hold no blank, comma, ? or #.")
    return folder.rstrip("/") or "/"


def gateway_address(text: str) -> str:
    """`host:port`, with or without `gateway://` before it. Raises ValueError."""
    address = text.strip().removeprefix("gateway://").rstrip("/")
    match = _HOST_PORT.match(address)
    if match is None:
        raise ValueError("Write the gateway's host and port: node1.example.org:50052")
    if not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"There is no port {match['port']}.")
    return address.lower()


def public_address(text: str) -> str:
    """`wss://host/ws`. Raises ValueError."""
    url = _url(text, schemes=("ws", "wss"), example="wss://api.hyperliquid.xyz/ws")
    return f"{url.scheme}://{url.netloc.lower()}{url.path or '/ws'}"


def http_url(name: str, text: str) -> str:
    """The URL of a node's `/info` or `/evm`, or of `/exchange`, whose name is added where it is
    missing; "" stays "". Raises ValueError."""
    if not text.strip():
        return ""
    url = _url(text, schemes=("http", "https"), example=f"http://127.0.0.1:3001/{name}")
    path = url.path.rstrip("/")
    return f"{url.scheme}://{url.netloc}{path if path.endswith(f'/{name}') else f'{path}/{name}'}"


def tls_problems(*, ca: str, cert: str, key: str, is_gateway: bool) -> dict[str, str]:
    """What is wrong with the PEM files of an upstream, by field."""
    files = {"tls_ca": ca, "tls_cert": cert, "tls_key": key}
    problems = {}
    for field, path in files.items():
        if path and not is_gateway:
            problems[field] = "Only a gateway is spoken to with these."
        elif path and not path.startswith("/") and (field, path) != ("tls_ca", "system"):
            problems[field] = "Write an absolute path: /etc/hl-relay/tls/ca.pem"
    if bool(cert) != bool(key):
        missing = "tls_key" if cert else "tls_cert"
        problems.setdefault(missing, "The certificate and its key belong together.")
    return problems


def _url(text: str, *, schemes: tuple[str, ...], example: str) -> SplitResult:
    text = text.strip()
    if _FORBIDDEN.search(text):
        raise ValueError("The URL may hold no blank, comma, ? or #.")
    try:
        url = urlsplit(text)
        is_whole = url.scheme in schemes and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(f"Write a {' or '.join(schemes)} URL: {example}")
    if url.username or url.password:
        raise ValueError("A password has no place here: everybody who may look would see it.")
    return url
