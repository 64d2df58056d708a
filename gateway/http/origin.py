"""The `/info` of the upstreams: asked in order, the answer handed on as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from gateway.http.errors import HttpError
from gateway.http.metrics import ORIGIN_REQUESTS

DEADLINE_S = 5.0
#: `webData2` of a large account is below 1 MB, `spotMetaAndAssetCtxs` below 1 MB.
MAX_ANSWER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """An origin's answer: status, content type, body bytes."""

    status: int
    content_type: bytes
    body: bytes


class Origins:
    """The origins of one process, and its connections to them. `urls` gives them as of now."""

    def __init__(self, urls: Callable[[], list[str]]) -> None:
        self._urls = urls
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, body: bytes) -> Answer:
        """POST `body` to the first origin that knows what it asks; reads only, so asking the next
        one is safe.

        Raises HttpError 502 when none answers within `DEADLINE_S`, 503 when there is none.
        """
        urls = self._urls()
        if not urls:
            raise HttpError(
                503, "no_origin", "No upstream with /info is configured (RELAY_UPSTREAMS: info=…)."
            )
        answer: Answer | None = None
        for url in urls:
            # Each gets its share of the deadline, or one that hangs would spend it all.
            answer = await self._try(url, body, DEADLINE_S / len(urls)) or answer
            # 422: this origin does not know the type; a node serves fewer than the public API.
            if answer is not None and answer.status not in (422, 429) and answer.status < 500:
                return answer
        if answer is None:
            raise HttpError(
                502,
                "upstream_unavailable",
                f"No upstream answered within {DEADLINE_S:.0f} s. Try again.",
            )
        return answer

    async def _try(self, url: str, body: bytes, deadline_s: float) -> Answer | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=DEADLINE_S, connect=2.0),
                connector=aiohttp.TCPConnector(limit=100),
                auto_decompress=True,
            )
        try:
            # Only what the origin needs: no header of the customer's, and so no key, ever goes
            # there.
            async with self._session.post(
                url,
                data=body,
                headers={"content-type": "application/json"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=deadline_s, connect=2.0),
            ) as reply:
                data = await reply.content.read(MAX_ANSWER_BYTES + 1)
                while not reply.content.at_eof() and len(data) <= MAX_ANSWER_BYTES:
                    data += await reply.content.read(MAX_ANSWER_BYTES + 1 - len(data))
        except (aiohttp.ClientError, TimeoutError, OSError):
            ORIGIN_REQUESTS.labels("failed").inc()
            return None
        if len(data) > MAX_ANSWER_BYTES or 300 <= reply.status < 400:
            ORIGIN_REQUESTS.labels("bad_reply").inc()
            return None
        ORIGIN_REQUESTS.labels(str(reply.status)).inc()
        content_type = reply.headers.get("content-type", "application/json").encode("latin-1")
        return Answer(reply.status, content_type, data)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
