"""The pages an invitation's mail leads to, and the language switch. Everything else about accounts
is allauth's."""

from __future__ import annotations

from django.contrib import auth, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe
from django.views.i18n import LANGUAGE_QUERY_PARAMETER, set_language

from tenants.models import Invitation
from tenants.people import languages, selectors, services, tokens
from tenants.people.accounts import FOLLOWED, followed_invitation


@never_cache
@require_safe
def follow_link(request: HttpRequest, token: str) -> HttpResponse:
    """Remember which link was followed and leave the address that holds it at once. Alone it opens
    nothing: who accepts has proved to own the invited e-mail address."""
    digest = tokens.digest(token)
    # What is no link leaves no session behind, or anybody could fill the table.
    if Invitation.objects.open().filter(digest=digest).exists():
        request.session[FOLLOWED] = digest
    return redirect("invitation")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest) -> HttpResponse:
    """Show the invitation whose link was followed; accept it when the form is sent. Who is signed
    in with another address is told whose it is, and may sign out (`sign_out`) and come back."""
    found = followed_invitation(request)
    if found is None or found.state(timezone.now()) == "expired":
        return render(request, "people/invitation.html", {"invitation": None}, status=404)
    if request.method == "POST" and "sign_out" in request.POST:
        digest = request.session[FOLLOWED]
        auth.logout(request)  # with all of its session
        request.session[FOLLOWED] = digest
        return redirect("invitation")
    if request.method == "POST" and isinstance(request.user, User):
        try:
            membership = services.accept_invitation(
                digest=request.session[FOLLOWED], user=request.user
            )
        except ValidationError as error:
            for line in error.messages:
                messages.error(request, line)
        else:
            del request.session[FOLLOWED]
            messages.success(
                request,
                _("You are %(role)s of %(tenant)s now.")
                % {"role": _(membership.role), "tenant": membership.tenant},
            )
            return redirect("dashboard:overview", slug=membership.tenant.slug)
    context = {"invitation": found, "is_theirs": selectors.owns(request.user, found.email)}
    return render(request, "people/invitation.html", context)


def switch_language(request: HttpRequest) -> HttpResponse:
    """Show pages in another language from now on, in this browser, and write mails in it to who is
    signed in."""
    if request.method == "POST" and isinstance(request.user, User):
        languages.choose(request.user, request.POST.get(LANGUAGE_QUERY_PARAMETER))
    return set_language(request)
