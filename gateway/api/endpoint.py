"""What the endpoints have in common: whose they are, input that is checked, pages, files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, QueryDict, StreamingHttpResponse
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.account.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from gateway.api.visit import visit_of
from tenants.admission.principal import Principal
from tenants.models import Tenant

#: Names in an error; a body may have thousands.
_MAX_NAME_CHARS = 40


class Strict(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a mistyped one would silently do nothing."""

    def to_internal_value(self, data: Any) -> Any:
        """As the framework's, after a look at the names."""
        if isinstance(data, Mapping) and (unknown := [n for n in data if n not in self.fields]):
            known = ", ".join(self.fields) or "none"
            name = str(unknown[0])[:_MAX_NAME_CHARS]
            raise serializers.ValidationError({name: f"is no field here; there are {known}."})
        return super().to_internal_value(data)


class NoQuery(Strict):
    """Of an endpoint that takes no parameters."""


class PageQuery(Strict):
    """Where in a list."""

    limit = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT
    )
    cursor = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=1_000,
        help_text="`next_cursor` of the page before.",
    )


class Money(serializers.DecimalField):
    """US dollars, as a decimal text in whole cents."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_digits": 22, "decimal_places": 2, **options})


class Endpoint(APIView):
    """One path. `is_reading` says that it changes nothing, whatever its method."""

    is_reading = False
    #: What of the query each method takes.
    queries: Mapping[str, type[Strict]] = {}

    @cached_property
    def principal(self) -> Principal:
        """The key that asks."""
        visit = visit_of(self.request)
        assert visit is not None  # noqa: S101 - permissions come first
        return visit.principal

    @cached_property
    def tenant(self) -> Tenant:
        """Whose account it is."""
        return Tenant.objects.get(pk=self.principal.tenant_id)

    @property
    def actor(self) -> str:
        """Who acts, for logs."""
        return f"{self.principal.key_prefix}…"

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Also check the query, so that no endpoint ignores what it was asked."""
        super().initial(request, *args, **kwargs)
        form = self.queries.get("GET" if request.method == "HEAD" else request.method, NoQuery)
        checks = form(data=_plain(request.query_params, form))
        checks.is_valid(raise_exception=True)
        self.asked: dict[str, Any] = dict(checks.validated_data)

    def body(self, form: type[Strict], *, is_partial: bool = False) -> dict[str, Any]:
        """What was sent, checked. Raises ValidationError."""
        checks = form(data=self.request.data, partial=is_partial)
        checks.is_valid(raise_exception=True)
        return dict(checks.validated_data)


def _plain(query: QueryDict, form: type[Strict]) -> dict[str, Any]:
    """Lists where a list is meant; else one value, or a mistake."""
    fields = form().fields
    found: dict[str, Any] = {}
    for name, values in query.lists():
        if isinstance(fields.get(name), serializers.ListField):
            found[name] = values
        elif len(values) > 1:
            raise serializers.ValidationError({name[:_MAX_NAME_CHARS]: "is given twice."})
        else:
            found[name] = values[0]
    return found


def page_of(row: type[serializers.BaseSerializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The form of a page of such rows."""
    name = row.__name__.removesuffix("Row")
    return type(
        f"{name}Page",
        (serializers.Serializer,),
        {
            "rows": row(many=True),
            "next_cursor": serializers.CharField(
                allow_blank=True, help_text="For the next page; empty at the end."
            ),
        },
    )


def paged(page: Page[Any], row: Callable[..., Any]) -> Response:
    """A page as it is answered."""
    return Response({"rows": row(page.rows, many=True).data, "next_cursor": page.next_cursor})


def file(
    request: Any, blocks: Iterator[bytes], *, name: str, content_type: str, csp: str = ""
) -> HttpResponse | StreamingHttpResponse:
    """A file that is sent while it is made. What cannot be made is found out before it begins."""
    first = next(blocks, b"")
    body: Any = _one_by_one(first, blocks)
    if not isinstance(request._request, ASGIRequest):
        body = _after(first, blocks)
    response = StreamingHttpResponse(body, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    if csp:
        response["Content-Security-Policy"] = csp
    return response


def _after(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from blocks


async def _one_by_one(first: bytes, blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Under ASGI, Django would collect a plain iterator into a list before it sent any of it.
    yield first
    take = sync_to_async(lambda: next(blocks, None))
    while (block := await take()) is not None:
        yield block
