"""The node's own `/info` and `/evm`, for callers on other machines."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import aiohttp
import msgspec

from streaming.core.without_secrets import without_secrets

MAX_REQUEST_BYTES = 1024 * 1024
#: `spotMeta` of mainnet is 300 KB, a large `webData2` some MB.
MAX_REPLY_BYTES = 32 * 1024 * 1024
DEADLINE_S = 15.0
#: Makes the node write a file of the caller's choice.
_WRITES_FILES = "fileSnapshot"


class NodeHttpError(Exception):
    """The node gave no answer; one line saying why."""


class Refused(Exception):
    """Not a request that a caller on another machine may make; one line saying why."""


class Reply(NamedTuple):
    """The node's HTTP status and its body."""

    status: int
    body: bytes


def checked_info(body: bytes) -> bytes:
    """The info request in `body`, written anew: whatever tricks its JSON plays with double or
    escaped names, the node reads what was checked here.

    Raises:
        ValueError: not a JSON object with a `type`.
        Refused: the node would write a file.
    """
    try:
        request: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("type"), str):
        raise ValueError('an info request is a JSON object with a "type"')
    if request["type"] == _WRITES_FILES:
        raise Refused(f"{_WRITES_FILES} makes the node write files; ask for a Checkpoint")
    return msgspec.json.encode(request)


class NodeHttp:
    """POSTs to one address of the node. Used in one loop; `close` at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, *, deadline_s: float | None) -> Reply:
        """The node's answer within `deadline_s`, and within `DEADLINE_S`.

        Raises:
            NodeHttpError: no connection, or an answer beyond `MAX_REPLY_BYTES`.
            TimeoutError: no answer in time.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(min(deadline_s or DEADLINE_S, DEADLINE_S)),
                self._session.post(self.url, data=body, headers=headers) as answer,
            ):
                return Reply(answer.status, await _read(answer))
        except (aiohttp.ClientError, ValueError) as error:
            shown = without_secrets(self.url)
            why = str(error).replace(self.url, shown) or type(error).__name__
            raise NodeHttpError(f"{shown}: {why}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in answer.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise NodeHttpError(f"an answer of more than {MAX_REPLY_BYTES} bytes")
    return b"".join(chunks)
