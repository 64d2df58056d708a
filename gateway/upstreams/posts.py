"""One POST to an upstream's `/info` or `/evm`: over HTTP, or through the HL Gateway beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import grpc

from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.upstream.links import open_channel
from streaming.upstream.spec import TlsFiles

CONNECT_S = 2.0
#: Of a process to one host; beyond it requests wait for their turn, within their deadline.
CONNECTIONS = 200
#: `webData2` of a large account is below 1 MB, `spotMetaAndAssetCtxs` below 1 MB.
MAX_ANSWER_BYTES = 32 * 1024 * 1024
_SERVICE = f"/{pb.DESCRIPTOR.services_by_name['HlGateway'].full_name}/"


@dataclass(frozen=True, slots=True)
class Answer:
    """An upstream's answer: status, content type, body bytes; `retry_after_s` as it said."""

    status: int
    content_type: bytes
    body: bytes
    retry_after_s: float | None = None

    @property
    def size_bytes(self) -> int:
        """Of its body."""
        return len(self.body)


class Failed(Exception):
    """No answer: `was_sent` is False only when surely no byte of the request left here. The text
    names no address."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


class Endpoint(Protocol):
    """Where requests go."""

    async def post(self, body: bytes, *, deadline_s: float) -> Answer:
        """The answer to `body`, within the deadline. Sent once. Raises Failed."""

    async def close(self) -> None:
        """Close the connections."""


class HttpEndpoint:
    """An http(s) URL. Connections are kept, and none is used for a second try."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, *, deadline_s: float) -> Answer:
        """Implements `Endpoint`."""
        if self._session is None:
            # The loop is known only now.
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector)
        timeout = aiohttp.ClientTimeout(total=deadline_s, connect=min(CONNECT_S, deadline_s))
        try:
            # Only what the upstream needs: no header of the customer's, and so no key, goes there.
            async with self._session.post(
                self._url,
                data=body,
                headers={"content-type": "application/json"},
                allow_redirects=False,
                timeout=timeout,
            ) as reply:
                data = await _read(reply)
        except aiohttp.ClientConnectorError as error:
            raise Failed("connection refused", was_sent=False) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Failed("no connection in time", was_sent=False) from error
        except TimeoutError as error:
            raise Failed("no answer in time", was_sent=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(type(error).__name__, was_sent=True) from error
        if 300 <= reply.status < 400:
            raise Failed(f"redirect {reply.status}", was_sent=True)
        content_type = reply.headers.get("content-type", "application/json").encode("latin-1")
        return Answer(
            reply.status, content_type, data, _seconds(reply.headers.get("retry-after", ""))
        )

    async def close(self) -> None:
        """Implements `Endpoint`."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


class GatewayEndpoint:
    """A node behind its HL Gateway; `method` is Info or Evm."""

    def __init__(self, address: str, tls: TlsFiles | None, method: str) -> None:
        self._address, self._tls = address, tls
        self._method = method
        self._request: Any = pb.InfoRequest if method == "Info" else pb.EvmRequest
        self._response: Any = pb.InfoResponse if method == "Info" else pb.EvmResponse
        self._channel: grpc.aio.Channel | None = None

    async def post(self, body: bytes, *, deadline_s: float) -> Answer:
        """Implements `Endpoint`."""
        try:
            if self._channel is None:
                self._channel = open_channel(self._address, self._tls)
            call = self._channel.unary_unary(_SERVICE + self._method)
            data = await call(self._request(body=body).SerializeToString(), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise Failed(error.code().name.lower(), was_sent=True) from error
        except OSError as error:
            raise Failed(type(error).__name__, was_sent=False) from error
        answer = self._response.FromString(data)
        is_text = answer.status >= 400 and not answer.body.startswith((b"{", b"[", b"n"))
        return Answer(answer.status, b"text/plain" if is_text else b"application/json", answer.body)

    async def close(self) -> None:
        """Implements `Endpoint`."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    """The whole body, in one piece where that is what came. Raises Failed when it is too large."""
    if (announced := reply.content_length) is not None and announced <= MAX_ANSWER_BYTES:
        return await reply.read()
    data = bytearray()
    async for piece in reply.content.iter_any():
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            raise Failed("an answer that is too large", was_sent=True)
    return bytes(data)


def _seconds(text: str) -> float | None:
    return float(text) if text.isdigit() else None
