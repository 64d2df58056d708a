"""The documentation's addresses. Nothing here asks the database or Redis."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import translation
from django.utils.html import escape
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_safe

from gateway.docsite import library, pages
from gateway.docsite.pages import CHINESE, ENGLISH, LANGUAGES, Page

KEEP_S = 300


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """To the first page, in the language that the reader's browser asks for."""
    wanted = translation.get_language_from_request(request) if settings.USE_I18N else ENGLISH
    language = CHINESE if wanted.lower().startswith("zh") else ENGLISH
    return HttpResponseRedirect(f"/docs/{language}/")


@require_safe
def page(request: HttpRequest, language: str, slug: str = "") -> HttpResponse:
    """One page."""
    found = _page(language, slug)
    rendered, is_translated = library.shown(found, language)
    before, after = pages.neighbours(found)
    context: dict[str, Any] = {
        "title": rendered.title or found.title(language),
        # Made by us of our own files, with raw HTML off.
        "body": mark_safe(at_home(request, rendered.html)),  # noqa: S308
        "contents": [each for each in rendered.contents if each.level > 1],
        "language": language,
        "languages": [
            (code, name, library.address(found, code)) for code, name in LANGUAGES.items()
        ],
        "is_translated": is_translated,
        "sections": _navigation(found, language),
        "before": _link(before, language),
        "after": _link(after, language),
        "raw_url": f"/docs/{language}/{found.slug or 'index'}.md",
        "search_url": f"/docs/{language}/search.json",
    }
    with translation.override(language):
        return render(request, "docs/page.html", context)


@require_safe
def raw(request: HttpRequest, language: str, slug: str) -> HttpResponse:
    """A page's Markdown, for whoever reads it elsewhere."""
    found = _page(language, "" if slug == "index" else slug)
    text = library.raw(found, language)
    return HttpResponse(text, content_type="text/markdown; charset=utf-8")


@require_safe
def search(request: HttpRequest, language: str) -> HttpResponse:
    """What the search box looks in."""
    if language not in LANGUAGES:
        raise Http404
    answer = HttpResponse(library.search_index(language), content_type="application/json")
    answer["Cache-Control"] = f"public, max-age={KEEP_S}"
    return answer


@require_safe
def file(request: HttpRequest, name: str) -> HttpResponse:
    """An image, a schema, a script that pages link to; by its name in a fixed list."""
    path = pages.files().get(name)
    if path is None or not path.is_file():
        raise Http404
    answer = HttpResponse(path.read_bytes(), content_type=pages.FILE_TYPES[path.suffix])
    answer["Cache-Control"] = f"public, max-age={KEEP_S}"
    return answer


@require_safe
def llms(request: HttpRequest) -> HttpResponse:
    """`/llms.txt`."""
    return _text(library.llms(base_url(request)))


@require_safe
def llms_full(request: HttpRequest) -> HttpResponse:
    """`/llms-full.txt`."""
    return _text(library.llms_full())


def base_url(request: HttpRequest) -> str:
    """Where customers reach this relay, without a slash at the end."""
    if settings.RELAY_PUBLIC_URL.startswith(("http://", "https://")):
        return str(settings.RELAY_PUBLIC_URL)
    return f"{request.scheme}://{request.get_host()}"


def at_home(request: HttpRequest, html: str) -> str:
    """A text's example addresses made this relay's own."""
    base = base_url(request)
    scheme, _, host = base.partition("://")
    is_secure = scheme == "https"
    name = host.partition(":")[0] if not host.startswith("[") else host.partition("]")[0] + "]"
    port = 443 if is_secure else settings.RELAY_GRPC_PORT
    for example, own in (
        (library.EXAMPLE_HTTP, base),
        (library.EXAMPLE_WS, f"{'wss' if is_secure else 'ws'}://{host}"),
        (library.EXAMPLE_GRPC, f"{name}:{port}"),
    ):
        html = html.replace(example, str(escape(own)))
    return html


def _page(language: str, slug: str) -> Page:
    found = pages.by_slug().get(slug)
    if found is None or language not in LANGUAGES:
        raise Http404
    return found


def _link(page: Page | None, language: str) -> tuple[str, str] | None:
    return None if page is None else (page.title(language), library.address(page, language))


def _navigation(current: Page, language: str) -> list[dict[str, Any]]:
    return [
        {
            "title": section.title(language),
            "pages": [
                {
                    "title": page.title(language),
                    "url": library.address(page, language),
                    "is_here": page is current,
                }
                for page in section.pages
            ],
        }
        for section in pages.sections()
    ]


def _text(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="text/plain; charset=utf-8")
