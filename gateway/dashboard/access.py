"""Who may open a page: one decorator, for whole pages and for the parts that htmx fetches.

Anonymous visitors are led to sign in; who is no member of the tenant finds nothing (404, also where
there is no such tenant); a member whose role lacks the right is told which roles have it (403).

A tenant may ask for a second factor: who has none is led to set one up before any of its pages
opens. A closed one, and an operator who looks at a customer's pages, change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from allauth.account.models import EmailAddress
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from tenants.models import Membership, Tenant
from tenants.people import looking, selectors, sessions
from tenants.people.factors import has_factor, used_factor
from tenants.people.roles import ALLOWED, May, may

#: In a session: the slug of the tenant that was looked at last.
LAST_TENANT = "dashboard.tenant"
SAFE = ("GET", "HEAD")


class PageRequest(HttpRequest):
    """What a page gets: a request of a member, in a tenant."""

    user: User
    tenant: Tenant
    membership: Membership


#: A page, or a file that is sent while it is made.
View = Callable[..., HttpResponseBase]


def page(
    may: May, *, methods: tuple[str, ...] = ("GET", "HEAD"), when_closed: bool = False
) -> Callable[[View], View]:
    """A view at `<slug>/…` that members who may `may` can open; called as `view(request, **rest)`,
    without the slug, with `request.tenant` and `request.membership`.

    In a closed account only what is `when_closed` is carried out: what is a person's own, takes
    access away, or pays. `view.may` and `view.methods` say what was asked for, so that tests need
    not be told twice.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, slug: str, **rest: Any) -> HttpResponseBase:
            answer: HttpResponseBase | None = _refusal(
                request, slug, may, methods, when_closed=when_closed
            )
            if answer is None:
                try:
                    answer = view(request, **rest)
                except PermissionDenied as error:  # by the role of now, or of a part of the page
                    answer = refused(request, str(error) or _("Your role does not allow this"))
            add_never_cache_headers(answer)
            return answer

        guarded.may, guarded.methods = may, methods  # type: ignore[attr-defined]
        return guarded

    return decorate


def signed_in(view: View) -> View:
    """A view of somebody signed in whose address is verified, outside any tenant."""

    @wraps(view)
    def guarded(request: HttpRequest, **rest: Any) -> HttpResponseBase:
        answer = _stranger(request) or view(request, **rest)
        add_never_cache_headers(answer)
        return answer

    return guarded


def who_may(act: May) -> list[str]:
    """The roles that have a right, as people read them."""
    return [role.value for role, acts in ALLOWED.items() if act in acts]


def _refusal(
    request: HttpRequest, slug: str, act: May, methods: tuple[str, ...], *, when_closed: bool
) -> HttpResponse | None:
    if (answer := _looks_only(request, slug, act, methods)) is not None:
        return answer
    if getattr(request, "customer_view", None) is not None:
        return None
    if (answer := _stranger(request)) is not None:
        return answer
    membership = selectors.membership(request.user, slug)  # type: ignore[arg-type]
    if membership is None:
        raise Http404
    request.membership, request.tenant = membership, membership.tenant  # type: ignore[attr-defined]
    if request.session.get(LAST_TENANT) != slug:
        request.session[LAST_TENANT] = slug
    sessions.note_seen(request)
    if membership.tenant.requires_second_factor and (answer := _prove(request)) is not None:
        return answer
    if not may(membership.role, act):
        return _forbidden(request, act)
    if request.method not in methods:
        return HttpResponseNotAllowed(methods)
    is_shut = membership.tenant.closed_at is not None and not when_closed
    if is_shut and request.method not in SAFE:
        return refused(request, _("This account is closed: nothing in it changes any more."))
    return None


def _looks_only(
    request: HttpRequest, slug: str, act: May, methods: tuple[str, ...]
) -> HttpResponse | None:
    """An operator who began to look at this tenant's pages sees them as an admin, and changes
    nothing: `request.customer_view` is set, or whatever else is to be answered."""
    began = request.session.get(looking.SESSION)
    view = looking.open_view(began, request.user, slug) if began else None  # type: ignore[arg-type]
    if view is None:
        return None
    membership = looking.as_member(view)
    request.membership, request.tenant = membership, view.tenant  # type: ignore[attr-defined]
    request.customer_view = view  # type: ignore[attr-defined]
    if request.method not in SAFE:
        return refused(request, _("You look at a customer's pages: nothing can be changed here."))
    if not may(membership.role, act):
        return _forbidden(request, act)
    return None if request.method in methods else HttpResponseNotAllowed(methods)


def _prove(request: HttpRequest) -> HttpResponse | None:
    """Where to set up a second factor, or to use it, for who opens a tenant that asks for one."""
    if not has_factor(request.user):  # type: ignore[arg-type]
        messages.warning(
            request,
            _("This account asks for a second factor: set up an authenticator app or a passkey."),
        )
        way = reverse("mfa_index")
    elif not used_factor(request):
        # What was sent with a form is not sent again.
        back = request.get_full_path() if request.method in SAFE else reverse("dashboard:home")
        way = f"{reverse('mfa_reauthenticate')}?{urlencode({'next': back})}"
    else:
        return None
    if request.headers.get("HX-Request"):
        answer = HttpResponse(status=401)
        answer["HX-Redirect"] = way
        return answer
    return redirect(way)


def _forbidden(request: HttpRequest, act: May) -> HttpResponse:
    context = {"act": act.value, "roles": who_may(act)}
    return render(request, "dashboard/forbidden.html", context, status=403)


def refused(request: HttpRequest, text: str) -> HttpResponse:
    """Nothing was done, and why."""
    return render(request, "dashboard/refused.html", {"text": text}, status=403)


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
