"""What an HTTP customer gets when something is wrong: JSON with `code` and `msg`.

python-sdk raises KeyError on a JSON error without these two keys.
"""

from __future__ import annotations

import orjson

Headers = list[tuple[bytes, bytes]]

JSON_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"ratelimit-policy, ratelimit, retry-after, x-request-id, x-relay-source, x-relay-height, "
        b"x-relay-age-ms, x-relay-cache, x-relay-warning, x-relay-address-budget",
    ),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),  # the path may hold a key
]


class HttpError(Exception):
    """A refusal of this edge. `msg` is one line: what was wrong, the limit, what to do."""

    def __init__(self, status: int, code: str, msg: str, *, headers: Headers | None = None) -> None:
        super().__init__(msg)
        self.status = status
        self.code = code
        self.headers = headers or []
        #: How long upstreams were asked for it, None where none was.
        self.upstream_s: float | None = None
        self.body = orjson.dumps({"code": code, "msg": msg})
