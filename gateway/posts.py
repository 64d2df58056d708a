"""What answers a `post` over the socket: the same rooms as over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import structlog

from gateway.exchange.service import Exchange
from gateway.http.call import Call
from gateway.http.edge import Note, entry_of, over_socket
from gateway.http.errors import HttpError
from gateway.http.info import Info
from streaming.ws import posts
from tenants.admission.control import AdmissionControl
from tenants.admission.errors import Denied
from tenants.admission.principal import Principal, Scope

log = structlog.get_logger(__name__)


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
        """Raises Refused."""
        call = over_socket(door, principal)
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
        except Exception as error:
            log.exception("post_failed", request=call.id, door=door, kind=call.kind)
            self._note(entry_of(call, status=500, code="internal"))
            text = f"Internal error. Tell us the request id {call.id}."
            raise posts.Refused(text) from error


class Unanswered(Exception):
    """An upstream answered something else than an answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
