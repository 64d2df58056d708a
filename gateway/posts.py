"""What answers a `post` over the socket: the same rooms as over HTTP."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.exchange.service import Exchange
from gateway.http.errors import HttpError
from gateway.http.info import Info
from streaming.ws import posts
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import Denied
from tenants.admission.principal import Principal, Scope


class CustomerPosts:
    """Implements `streaming.ws.posts.Posts`."""

    def __init__(self, admission: AdmissionControl, info: Info, exchange: Exchange) -> None:
        self._admission = admission
        self._info = info
        self._exchange = exchange

    async def info(self, payload: Any, principal: Principal) -> bytes:
        """As `/info`."""
        return await self._info.info(payload, principal)

    async def action(self, body: bytes, principal: Principal) -> bytes:
        """As `/exchange`."""
        try:
            # Let in at another door: this one has its own scope and product.
            self._admission.check_door(principal, Scope.EXCHANGE)
            answer, _ = await self._exchange.serve(body, principal)
        except HttpError as error:
            # A socket has no status: the code says whether it was sent.
            raise posts.Refused(f"{error.code}: {error}") from error
        except Denied as error:
            raise posts.Refused(str(error)) from error
        if answer.status != 200 or not _is_json(answer.body):
            text = answer.body[:200].decode("utf-8", "replace")
            raise posts.Refused(f"It was sent, and the answer is {answer.status} {text}")
        return answer.body


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
