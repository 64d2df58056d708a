"""The description of the API and its page, which anybody may read."""

from __future__ import annotations

import hashlib
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from gateway.api.describing import description
from gateway.api.endpoint import Endpoint

#: Swagger UI sets styles from its scripts, which is no inline style, and draws with data: images.
DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document, the same until the next release."""
    body = description()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(body, content_type="application/json")
        # For generators of clients, in a browser too; there is nothing secret in it.
        response["Access-Control-Allow-Origin"] = "*"
    response["ETag"] = etag
    patch_cache_control(response, max_age=60)
    return response


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI, its script in a request of its own so that none stands in the page."""

    url_name = "account-schema"
    template_name = "api/docs.html"
    title = "HL Relay account API"

    @extend_schema(exclude=True)
    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """The page, or with `?script` its script."""
        response = super().get(request, *args, **kwargs)
        response["Content-Security-Policy"] = DOCS_CSP
        return response


class Nothing(Endpoint):
    """Whatever else stands under /v1/."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Raises NotFound, once it is known who asks."""
        super(Endpoint, self).initial(request, *args, **kwargs)
        raise NotFound("No such path. /v1/docs names all there are.")

    @extend_schema(exclude=True)
    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Never reached."""
        raise NotFound

    post = put = patch = delete = get
