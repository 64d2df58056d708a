"""What answers a `post` over the socket: the same rooms as over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from gateway.exchange.service import Exchange
from gateway.http.call import Call, Message
from gateway.http.edge import OVER_SOCKET, Note, entry_of
from gateway.http.errors import HttpError
from gateway.http.info import Info
from streaming.ws import posts
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import Denied
from tenants.admission.principal import Principal, Scope


class CustomerPosts:
    """Implements `streaming.ws.posts.Posts`. What is refused or fails leaves a record, as over
    HTTP, with the method `WS`."""

    def __init__(
        self, admission: AdmissionControl, info: Info, exchange: Exchange, *, note: Note
    ) -> None:
        self._admission = admission
        self._info = info
        self._exchange = exchange
        self._note = note

    async def info(self, payload: Any, principal: Principal) -> bytes:
        """As `/info`."""
        with self._recorded("info", principal) as call:
            # Let in at another door: this one has its own scope and product.
            self._admission.check_door(principal, Scope.INFO)
            answer, _ = await self._info.serve(payload, principal, call=call)
            if answer.status != 200:
                text = answer.body[:200].decode("utf-8", "replace")
                raise Unanswered(answer.status, f"{answer.status} {text}")
            return answer.body

    async def action(self, body: bytes, principal: Principal) -> bytes:
        """As `/exchange`."""
        with self._recorded("exchange", principal) as call:
            self._admission.check_door(principal, Scope.EXCHANGE)
            answer, _ = await self._exchange.serve(body, principal, call=call)
            if answer.status != 200 or not _is_json(answer.body):
                text = answer.body[:200].decode("utf-8", "replace")
                said = f"It was sent, and the answer is {answer.status} {text}"
                raise Unanswered(answer.status, said)
            return answer.body

    @contextmanager
    def _recorded(self, door: str, principal: Principal) -> Iterator[Call]:
        """A request over a socket, which has no id but the one of its record. Raises Refused."""
        scope = {"method": OVER_SOCKET, "headers": []}
        call = Call(os.urandom(16).hex(), door, scope, _nothing, principal=principal)
        try:
            yield call
        except Unanswered as odd:
            self._note(entry_of(call, status=odd.status, code="upstream_refused"))
            raise posts.Refused(str(odd)) from odd
        except HttpError as error:
            self._note(entry_of(call, status=error.status, code=error.code))
            # A socket has no status: of an action the code says whether it was sent.
            told = f"{error.code}: {error}" if door == "exchange" else str(error)
            raise posts.Refused(told) from error
        except Denied as denied:
            self._note(entry_of(call, status=denied.http_status, code=denied.code))
            raise posts.Refused(str(denied)) from denied


class Unanswered(Exception):
    """An upstream answered something else than an answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def _nothing() -> Message:
    raise RuntimeError("a post has no body of its own")


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
