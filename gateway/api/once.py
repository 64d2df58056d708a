"""`Idempotency-Key`: what is asked for twice with the same one is done once, and answered the same.

Kept in the shared cache for a day; a secret that was shown is not, so that the second answer has
none. Without the cache such a request is refused: it could not be told from one of before.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import structlog
from django.core.cache import cache
from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from gateway.account.errors import AccountError, BadValue, Conflict, Unavailable
from gateway.api.visit import visit_of

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
KEPT_S = 24 * 3600
#: What is asked for again while the first is not done waits for it so long at most.
UNDER_WAY_S = 60
_FORM = re.compile(r"[!-~]{1,128}")


class Mismatch(AccountError):
    """The same key for something else."""

    code = "idempotency_mismatch"
    http_status = 422

    def __init__(self) -> None:
        super().__init__(f"{HEADER}: it was sent with another request; choose a new one.")


def once(*, shown_once: str = "") -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """A method of a view that makes something. `shown_once` is the field of its answer that is
    given the first time alone."""

    def decorate(method: Callable[..., Response]) -> Callable[..., Response]:
        @functools.wraps(method)
        def wrapped(view: Any, request: Any, *args: Any, **kwargs: Any) -> Response:
            given = request.headers.get(HEADER)
            if given is None:
                return method(view, request, *args, **kwargs)
            if not _FORM.fullmatch(given):
                raise BadValue(f"{HEADER}: 1 to 128 printable ASCII characters, no spaces.")
            place, asked = _place(request, given)
            before = _begin(place, asked)
            if before is not None:
                headers = {"Idempotency-Replayed": "true"}
                return Response(before["body"], status=before["status"], headers=headers)
            try:
                with (
                    transaction.atomic()
                ):  # what cannot be told is not done, and may be asked again
                    response = method(view, request, *args, **kwargs)
            except BaseException:
                _forget(place)
                raise
            _keep(place, asked, response, shown_once)
            return response

        return wrapped

    return decorate


def _place(request: Any, given: str) -> tuple[str, str]:
    visit = visit_of(request)
    assert visit is not None  # noqa: S101 - permissions come first
    who = f"{visit.principal.tenant_id}:{visit.principal.family_id}"
    digest = hashlib.sha256(f"{who}:{given}".encode()).hexdigest()
    return f"account:once:{digest}", f"{request.method} {request.path} {visit.body_sha256}"


def _begin(place: str, asked: str) -> dict[str, Any] | None:
    """What was answered before; None when this is the first."""
    try:
        if cache.add(place, {"asked": asked}, UNDER_WAY_S):
            return None
        before = cache.get(place)
    except Exception as error:
        log.warning("idempotency_unread", error=type(error).__name__)
        raise Unavailable(f"{HEADER}: what was asked before cannot be read now.") from None
    if before is not None and before["asked"] != asked:
        raise Mismatch
    if before is None or "status" not in before:
        raise Conflict(f"{HEADER}: the same request is under way; ask again in a moment.")
    return dict(before)


def _keep(place: str, asked: str, response: Response, shown_once: str) -> None:
    body = json.loads(JSONRenderer().render(response.data))
    if shown_once and isinstance(body, dict):
        body = {**body, shown_once: None}
    kept = {"asked": asked, "status": response.status_code, "body": body}
    try:
        cache.set(place, kept, KEPT_S)
    except Exception as error:  # it is done; who asks again within a minute is told to wait
        log.warning("idempotency_not_kept", error=type(error).__name__)


def _forget(place: str) -> None:
    try:
        cache.delete(place)
    except Exception as error:
        log.warning("idempotency_not_forgotten", error=type(error).__name__)
