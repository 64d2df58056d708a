"""One Redis address in the three spellings its users want.

redis-py says `unix:///path?db=1`, Celery `redis+socket:///path?virtual_host=1`, and channels_redis
takes a dict. The settings hold redis-py's spelling; everything else is made from it here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEMES = ("redis", "rediss", "unix")

#: Linux `sockaddr_un.sun_path` holds 108 bytes with its closing zero.
MAX_SOCKET_PATH_BYTES = 107


class BadRedisURL(ValueError):
    """Not an address of a Redis. The text names the fault and never the password."""


def parse(url: str) -> str:
    """`url` in redis-py's spelling. Raises BadRedisURL.

    Celery's spelling of a socket (`redis+socket://`) is understood as well.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRedisURL("not a URL (is the password URL-encoded?)") from error
    if parts.scheme == "redis+socket":
        query = [("db" if k == "virtual_host" else k, v) for k, v in parse_qsl(parts.query)]
        parts = parts._replace(scheme="unix", query=urlencode(query))
    if parts.scheme not in SCHEMES:
        raise BadRedisURL(f"scheme {parts.scheme!r} is not one of {', '.join(SCHEMES)}")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise BadRedisURL("a unix socket needs an absolute path: unix:///path")
        if len(os.fsencode(parts.path)) > MAX_SOCKET_PATH_BYTES:
            raise BadRedisURL(f"the socket's path is longer than {MAX_SOCKET_PATH_BYTES} bytes")
    elif not parts.hostname or port == 0:
        raise BadRedisURL("the host is missing: redis://host:port/database")
    elif parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise BadRedisURL("the database is not a number: redis://host:port/0")
    # urlunsplit would write unix:/path where redis-py wants unix:///path.
    return f"{parts.scheme}://{parts.netloc}" + urlunsplit(parts._replace(scheme="", netloc=""))


def for_celery(url: str) -> str:
    """The same Redis as kombu spells it."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = [("virtual_host" if k == "db" else k, v) for k, v in parse_qsl(parts.query)]
    user = f"{parts.netloc}" if parts.netloc else ""
    return f"redis+socket://{user}{parts.path}" + (f"?{urlencode(query)}" if query else "")


def for_channels(url: str) -> dict[str, Any]:
    """The same Redis as an entry of channels_redis' `hosts`.

    redis-py 8 gives up on a read after 5 s by itself; a layer that waits for the next message must
    not.
    """
    return {"address": url, "socket_timeout": None}


def without_password(url: str) -> str:
    """`url` fit for a log line."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return url.replace(f"{parts.netloc}", f"…@{parts.netloc.rpartition('@')[2]}", 1)


def embedded_socket(var: Path) -> Path:
    """Where the embedded Redis of the folder `var` listens.

    In the folder itself, or, where that path is too long for a socket, in a folder of ours under
    /tmp whose name follows from it, so that every process of this relay finds the same one.
    """
    path = var / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(var)).hexdigest()[:16]
    return Path(f"/tmp/hlrelay-{os.getuid()}-{name}/redis.sock")  # noqa: S108 (mode 0700, owner checked)
