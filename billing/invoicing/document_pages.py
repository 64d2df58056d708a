"""The documents of invoices and credit notes in the admin."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from billing.invoicing.documents import document, render_html, render_pdf
from billing.models import CreditNote, Invoice


class DocumentPages(ModelAdmin):
    """An admin whose rows have documents. `deferred` are columns that its list does not read."""

    deferred: tuple[str, ...] = ()

    @property
    def _page(self) -> str:
        return f"billing_{self.opts.model_name}_document"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("_changelist")
        return rows.defer(*self.deferred) if is_list else rows

    @display(description="documents")
    def documents_shown(self, what: Invoice | CreditNote) -> SafeString:
        urls = [
            reverse(f"admin:{self._page}", args=[what.pk, format]) for format in ("pdf", "html")
        ]
        return format_html(
            '<a class="text-primary-600" href="{}">PDF</a> · '
            '<a class="text-primary-600" href="{}">HTML</a>',
            *urls,
        )

    def get_urls(self) -> list[URLPattern]:
        own = path(
            "<int:pk>/document/<str:format>/",
            self.admin_site.admin_view(self.document_view),
            name=self._page,
        )
        return [own, *super().get_urls()]

    def document_view(self, request: HttpRequest, pk: int, format: str) -> HttpResponse:
        """The document as it was or would be sent."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        what: Any = self.get_object(request, str(pk))
        if what is None or format not in {"pdf", "html"}:
            raise Http404
        if what.number is not None:
            body = bytes(document(what, "pdf" if format == "pdf" else "html").body)
        else:
            body = render_pdf(what) if format == "pdf" else render_html(what).encode()
        response = HttpResponse(
            body, content_type="application/pdf" if format == "pdf" else "text/html"
        )
        response["Content-Disposition"] = f'inline; filename="{what.number or "draft"}.{format}"'
        response["Cache-Control"] = "no-store"
        # Names and addresses are escaped; nothing in the page may run all the same.
        response["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
        )
        return response
