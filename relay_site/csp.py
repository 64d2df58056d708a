"""What a browser may load on our pages: nothing that is not ours.

Customers' pages are strict: no inline script or style, no `eval`. The admin's theme needs both, and
has a policy of its own below `/admin/`. A view changes its own page's with django-csp's decorators.
"""

from __future__ import annotations

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

STRICT: dict[str, Any] = {
    "default-src": [NONE],
    "script-src": [SELF],
    "style-src": [SELF],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "manifest-src": [SELF],
    "connect-src": [SELF],
    "frame-ancestors": [NONE],
    "base-uri": [NONE],
    "form-action": [SELF],
}
ADMIN: dict[str, Any] = STRICT | {
    "script-src": [SELF, UNSAFE_INLINE, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "font-src": [SELF, "data:"],
}
ADMIN_PREFIX = "/admin/"


class ContentSecurityPolicy(CSPMiddleware):
    """django-csp's, with the admin's own policy and this host's sockets."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        """As django-csp asks; a view's own configuration stands."""
        parts = super().get_policy_parts(request, response, report_only)
        if report_only:
            return parts
        if parts.config is None:
            is_admin = request.path_info.startswith(ADMIN_PREFIX)
            parts.config = dict(ADMIN if is_admin else STRICT)
        # 'self' means the scheme of the page too in browsers that are not the newest.
        scheme = "wss" if request.is_secure() else "ws"
        config = dict(parts.config)
        config["connect-src"] = [*config.get("connect-src", []), f"{scheme}://{_host(request)}"]
        parts.config = config
        return parts


def _host(request: HttpRequest) -> str:
    """As the browser has it; of a refused name nothing is repeated."""
    from django.core.exceptions import DisallowedHost

    try:
        return request.get_host()
    except DisallowedHost:
        return "invalid"
