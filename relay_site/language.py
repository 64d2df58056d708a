"""Which language an answer is in: a page is in its reader's; what machines and operators read is
English, whatever they accept. A refusal is put into words where it is raised, in the language that
is active then (`gateway/account/errors.py`), so this is where the account API's English is made."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

ENGLISH = "en"
#: The account API, the operators' site, and the calls of payment providers.
ENGLISH_PATHS = ("/v1/", "/admin/", "/webhooks/")


class ReadersLanguage(LocaleMiddleware):
    """Django's, which chooses by the menu's cookie and by `Accept-Language`, for pages alone."""

    def process_request(self, request: HttpRequest) -> None:
        """Activate the one or the other, so that nothing of the request before is left."""
        if request.path_info.startswith(ENGLISH_PATHS):
            translation.activate(ENGLISH)
            request.LANGUAGE_CODE = ENGLISH
        else:
            super().process_request(request)

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Say that another language would be another answer, where it would."""
        if request.path_info.startswith(ENGLISH_PATHS):
            response.headers.setdefault("Content-Language", ENGLISH)
            return response
        return super().process_response(request, response)
