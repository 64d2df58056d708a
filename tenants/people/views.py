"""The pages an invitation's mail leads to. Everything else about accounts is allauth's."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from tenants.models import Invitation
from tenants.people import services, tokens
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
    """Show the invitation whose link was followed; accept it when the form is sent."""
    found = followed_invitation(request)
    if found is None or found.state(timezone.now()) == "expired":
        return render(request, "people/invitation.html", {"invitation": None}, status=404)
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
    return render(request, "people/invitation.html", {"invitation": found})
