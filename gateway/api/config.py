"""What Django REST framework and drf-spectacular are told. Plain values, read by the settings."""

from __future__ import annotations

from typing import Any

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["gateway.api.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["gateway.api.authentication.MayAct"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["gateway.api.parsing.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "gateway.api.describing.Describing",
    "EXCEPTION_HANDLER": "gateway.api.errors.answer",
    # No OPTIONS, and no ?format= in place of a path's own.
    "DEFAULT_METADATA_CLASS": None,
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "HL Relay account API",
    "VERSION": "1",
    "DESCRIPTION": (
        "Everything the dashboard shows and does, for programs. Send an API key with the scope "
        "`account` (or `account_read`, which reads and changes nothing) in `X-API-Key` or as "
        "`Authorization: Bearer`. Times are ISO 8601 in UTC, ranges half-open, amounts decimal "
        "texts in US dollars. Errors are "
        '`{"error": {"code", "message", "request_id"}}`.'
    ),
    "OAS_VERSION": "3.0.3",
    "SCHEMA_PATH_PREFIX": "/v1",
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_NO_READ_ONLY_REQUIRED": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["gateway.api.describing.finish"],
}
