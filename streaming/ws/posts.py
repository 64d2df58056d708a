"""A port: what answers a `post` over the socket. The gateway, which lies above, plugs itself in."""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from streaming.core.dialects import official
from tenants.admission.principal import Principal


class Refused(Exception):
    """A post that cannot be answered; the text goes to the customer as it is."""


class Posts(Protocol):
    """Answers posts."""

    async def info(self, payload: Any, principal: Principal) -> bytes:
        """The body `/info` would give for `payload`, as JSON bytes; it costs and counts as there.
        Raises Refused."""

    async def action(self, body: bytes, principal: Principal) -> bytes:
        """The body `/exchange` would answer to `body`, as JSON bytes; it costs and counts as there.
        Raises Refused."""


async def answer(post: official.Post, posts: Posts | None, principal: Principal) -> bytes:
    """The whole answer frame of a post. Source: protocol of `post` requests (info: type and data;
    error: a string)."""
    try:
        if posts is None:
            raise Refused(f"posts of type {post.kind} are not served here")
        if post.kind == "action":
            answered = await posts.action(post.body, principal)
            return official.post_answer(post.post_id, "action", answered)
        body = await posts.info(post.payload, principal)
    except Refused as refused:
        return official.post_answer(post.post_id, "error", orjson.dumps(str(refused)))
    asked = post.payload.get("type") if isinstance(post.payload, dict) else None
    payload = b'{"type":%s,"data":%s}' % (orjson.dumps(asked), body or b"null")
    return official.post_answer(post.post_id, "info", payload)
