"""The admin's own log-in: a password, for operators who have no second factor yet."""

from __future__ import annotations

from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm


class OperatorForm(AuthenticationForm):
    """Refuses who has a second factor: the accounts' log-in asks for it, and the session it makes
    opens the admin as well."""

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        super().confirm_login_allowed(user)
        if is_mfa_enabled(user):
            raise ValidationError(
                "This operator has a second factor: sign in at /accounts/login/?next=/admin/.",
                code="second_factor",
            )
