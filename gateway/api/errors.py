"""Every error in one shape: `{"error": {"code", "message", "request_id"}}`, one clear line."""

from __future__ import annotations

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from gateway.account.errors import AccountError
from gateway.api.visit import visit_of
from tenants.admission.errors import Denied

log = structlog.get_logger(__name__)

_CODES: dict[type[Exception], str] = {
    exceptions.ParseError: "bad_json",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.NotFound: "not_found",
}


def answer(error: Exception, context: dict[str, Any]) -> Response:
    """The framework's handler of exceptions: nothing gets past it as a page or a traceback."""
    visit = visit_of(context["request"])
    request_id = visit.request_id if visit is not None else ""
    status, code, message, headers = _read(error, request_id)
    if status == 500:
        view = type(context.get("view")).__name__
        log.exception("account_request_failed", request=request_id, view=view, exc_info=error)
    if visit is not None:
        visit.code = code
    body = {"error": {"code": code, "message": message, "request_id": request_id}}
    return Response(body, status=status, headers=headers)


def _read(error: Exception, request_id: str) -> tuple[int, str, str, dict[str, str]]:
    match error:
        case AccountError():
            return error.http_status, error.code, str(error), {}
        case Denied():
            headers = {name.decode(): value.decode() for name, value in error.headers}
            del headers["content-type"]
            return error.http_status, error.code, str(error), headers
        case exceptions.ValidationError():
            return 400, "bad_value", first_line(error.detail), {}
        case exceptions.MethodNotAllowed():
            return 405, "method_not_allowed", str(error.detail), {}
        case exceptions.APIException():
            code = _CODES.get(type(error), error.default_code)
            return error.status_code, code, str(error.detail), {}
        case Http404():
            return 404, "not_found", "There is no such thing in this account.", {}
        case PermissionDenied():
            return 403, "not_allowed", str(error) or "This is not allowed.", {}
        case SuspiciousOperation():
            return 400, "bad_request", "The request cannot be served as it is.", {}
        case OperationalError():
            log.warning("account_database_away", request=request_id, error=str(error)[:200])
            text = "The database cannot be asked now: try again."
            return 503, "unavailable", text, {"Retry-After": "2"}
    return 500, "internal", f"Internal error. Tell us the request id {request_id}.", {}


def first_line(detail: Any, where: str = "") -> str:
    """The first mistake of a serializer, with the path to its field."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            if not inner:
                continue
            if name == "non_field_errors":
                return first_line(inner, where)
            step = f"[{name}]" if isinstance(name, int) else f".{name}" if where else str(name)
            return first_line(inner, where + step)
    if isinstance(detail, list):
        for place, inner in enumerate(detail):
            if isinstance(inner, dict | list):
                if inner:
                    return first_line(inner, f"{where}[{place}]")
                continue
            return f"{where}: {inner}" if where else str(inner)
    return f"{where}: {detail}" if where else str(detail)
