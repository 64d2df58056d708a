"""How operators get into the admin: a password, and a second factor where there is one or must be.

The session remembers which factor it was opened with (allauth's records), and `second_factor`
believes it only while that factor exists: one that is reset closes the admin to its sessions."""

from __future__ import annotations

from collections.abc import Callable

from allauth.account.app_settings import EmailVerificationMethod
from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from allauth.account.utils import get_next_redirect_url
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from unfold.forms import AuthenticationForm

from tenants.people.factors import FACTORS, has_factor, used_factor

SET_ONE_UP = (
    "Operators need a second factor: set up an authenticator app or a passkey here, then open the "
    "admin again."
)


class OperatorForm(AuthenticationForm):
    """The admin's own log-in, by name. Who has a second factor is not in yet: the accounts' page
    asks for it, as after their log-in, and leads back."""

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        super().confirm_login_allowed(user)
        if not is_mfa_enabled(user, FACTORS):
            return
        login = Login(
            user=user,
            # By name, and the factor proves more than an address would.
            email_verification=EmailVerificationMethod.NONE,
            redirect_url=get_next_redirect_url(self.request) or reverse("admin:index"),
        )
        name = {"username": user.get_username()}
        raise ImmediateHttpResponse(perform_password_login(self.request, name, login))


def second_factor(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: with `RELAY_STAFF_MFA` no page of the admin answers a session that was opened
    without a second factor. Who has none is led to set one up, who has one to use it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not settings.RELAY_STAFF_MFA or not _is_guarded(request):
            return get_response(request)
        if not has_factor(request.user):  # type: ignore[arg-type]
            messages.warning(request, SET_ONE_UP)
            return redirect("mfa_index")
        if used_factor(request):
            return get_response(request)
        # What was sent with a form is not sent again.
        back = request.get_full_path() if request.method == "GET" else reverse("admin:index")
        return redirect(f"{reverse('mfa_reauthenticate')}?{urlencode({'next': back})}")

    return middleware


def _is_guarded(request: HttpRequest) -> bool:
    """Everything under the admin for whoever is signed in; strangers are led to its log-in."""
    is_open = request.path in (reverse("admin:login"), reverse("admin:logout"))
    is_admin = request.path.startswith(reverse("admin:index")) and not is_open
    return is_admin and request.user.is_authenticated and request.user.is_staff
