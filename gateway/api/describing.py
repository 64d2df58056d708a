"""How the API is described: names of operations, what a query takes, one form of error, headers.

Nothing here is decided a second time: the description is made of what checks and answers.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import OpenApiParameter

from gateway.account.errors import AccountError
from gateway.api import once

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "Never changes."},
                "message": {"type": "string", "description": "One line for a person."},
                "request_id": {"type": "string"},
            },
        }
    },
}
IDEMPOTENT = OpenApiParameter(
    once.HEADER,
    str,
    OpenApiParameter.HEADER,
    description="Of your choice: asked for twice with the same one, it is done once. A day long.",
    pattern="^[!-~]{1,128}$",
)


class Describing(AutoSchema):
    """Takes the parameters of a query from what checks them."""

    def get_override_parameters(self) -> list[Any]:
        """The query's, and what a method itself names."""
        form = getattr(self.view, "queries", {}).get(self.method)
        return [*([form] if form is not None else []), *super().get_override_parameters()]

    def get_tags(self) -> list[str]:
        """The first part of the path."""
        return [self.path.removeprefix("/v1/").partition("/")[0].partition(".")[0]]


class KeyScheme(OpenApiAuthenticationExtension):
    """An API key in one of its two headers."""

    target_class = "gateway.api.authentication.KeyAuthentication"
    name = ["apiKey", "bearer"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Either."""
        return [{"apiKey": []}, {"bearer": []}]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        """Both."""
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "http", "scheme": "bearer"},
        ]


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The error of every operation, and that bodies have no other fields than those named."""
    components = result["components"]
    components["schemas"]["Error"] = _ERROR
    components["responses"] = {
        "Error": {
            "description": "It was not done; `code` says why.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    }
    for name, schema in components["schemas"].items():
        if name.endswith("Request") and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    for methods in result["paths"].values():
        for operation in methods.values():
            operation["responses"]["default"] = {"$ref": "#/components/responses/Error"}
    return result


@lru_cache(1)
def description() -> bytes:
    """The OpenAPI document, made once a process: it takes half a second."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    text: bytes = OpenApiJsonRenderer().render(schema, renderer_context={})
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


#: For whoever documents codes.
CODES = sorted({kind.code for kind in AccountError.__subclasses__()})
