"""Who may open a page: one decorator, for whole pages and for the parts that htmx fetches.

Anonymous visitors are led to sign in; who is no member of the tenant finds nothing (404, also where
there is no such tenant); a member whose role lacks the right is told which roles have it (403).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from tenants.models import Membership, Tenant
from tenants.people import selectors
from tenants.people.roles import ALLOWED, May, may

#: In a session: the slug of the tenant that was looked at last.
LAST_TENANT = "dashboard.tenant"


class PageRequest(HttpRequest):
    """What a page gets: a request of a member, in a tenant."""

    user: User
    tenant: Tenant
    membership: Membership


View = Callable[..., HttpResponse]


def page(may: May, *, methods: tuple[str, ...] = ("GET", "HEAD")) -> Callable[[View], View]:
    """A view at `<slug>/…` that members who may `may` can open; called as `view(request, **rest)`,
    without the slug, with `request.tenant` and `request.membership`.

    `view.may` and `view.methods` say what was asked for, so that tests need not be told twice.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, slug: str, **rest: Any) -> HttpResponse:
            answer = _refusal(request, slug, may, methods)
            if answer is None:
                answer = view(request, **rest)
            add_never_cache_headers(answer)
            return answer

        guarded.may, guarded.methods = may, methods  # type: ignore[attr-defined]
        return guarded

    return decorate


def signed_in(view: View) -> View:
    """A view of somebody signed in whose address is verified, outside any tenant."""

    @wraps(view)
    def guarded(request: HttpRequest, **rest: Any) -> HttpResponse:
        answer = _stranger(request) or view(request, **rest)
        add_never_cache_headers(answer)
        return answer

    return guarded


def who_may(act: May) -> list[str]:
    """The roles that have a right, as people read them."""
    return [role.value for role, acts in ALLOWED.items() if act in acts]


def _refusal(
    request: HttpRequest, slug: str, act: May, methods: tuple[str, ...]
) -> HttpResponse | None:
    if (answer := _stranger(request)) is not None:
        return answer
    membership = selectors.membership(request.user, slug)  # type: ignore[arg-type]
    if membership is None:
        raise Http404
    request.membership, request.tenant = membership, membership.tenant  # type: ignore[attr-defined]
    if request.session.get(LAST_TENANT) != slug:
        request.session[LAST_TENANT] = slug
    if not may(membership.role, act):
        context = {"act": act.value, "roles": who_may(act)}
        return render(request, "dashboard/forbidden.html", context, status=403)
    if request.method not in methods:
        return HttpResponseNotAllowed(methods)
    return None


def _stranger(request: HttpRequest) -> HttpResponse | None:
    """Where to send who is not signed in, or has not shown that the address is theirs."""
    if not request.user.is_authenticated:
        if request.headers.get("HX-Request"):
            # Coming back to a part would show it alone; the page that it was on knows itself.
            answer = HttpResponse(status=401)
            answer["HX-Redirect"] = redirect_to_login(reverse("dashboard:home"))["Location"]
            return answer
        return redirect_to_login(request.get_full_path())
    if not EmailAddress.objects.filter(user=request.user, verified=True).exists():
        messages.warning(request, _("Verify your e-mail address first."))
        return redirect("account_email")
    return None
