"""allauth in our words: who may sign up, what they are then, and how second factors are kept."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, MultiFernet
from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from tenants import letters
from tenants.models import Invitation
from tenants.people import languages
from tenants.people.signup import open_account

#: In a session: the digest of the link that was followed.
FOLLOWED = "invitation"


def followed_invitation(request: HttpRequest) -> Invitation | None:
    """The open invitation whose link this browser followed."""
    digest = request.session.get(FOLLOWED)
    return Invitation.objects.open().filter(digest=digest).first() if digest else None


class AccountAdapter(DefaultAccountAdapter):
    """Sign-up is open by setting, and always for who was invited."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.RELAY_SIGNUP or followed_invitation(request) is not None

    def get_client_ip(self, request: HttpRequest) -> str:
        """What its limits count by: as the admin's lockout, so an IPv6 network is one address."""
        address = import_string(settings.AXES_CLIENT_IP_CALLABLE)(request)
        return str(address or super().get_client_ip(request))

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """To the invitation that is waiting, if one is."""
        if followed_invitation(request) is not None:
            return reverse("invitation")
        return str(super().get_login_redirect_url(request))

    get_signup_redirect_url = get_login_redirect_url

    def render_mail(
        self,
        template_prefix: str,
        email: str | list[str],
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMessage:
        """`account/email/NAME` is our letter `account/NAME`, in the language that the address's
        proven owner chose: somebody else may sit before the page, and it is the owner who has to
        understand that. Where nobody chose, in the page's."""
        to = [email] if isinstance(email, str) else email
        chosen = languages.of_proven(to[0]) if to else None
        letter = letters.write(
            f"account/{template_prefix.rpartition('/')[2]}",
            language=chosen or get_language() or settings.LANGUAGE_CODE,
            site=settings.RELAY_SITE_NAME,
            **context,
        )
        return EmailMessage(
            subject=self.format_email_subject(letter.subject),
            body=letter.text,
            from_email=self.get_from_email(),
            to=to,
            headers=headers,
        )


class SignupForm(forms.Form):
    """What a sign-up asks besides e-mail and password: the company, and the terms. Who was invited
    joins a company whose owner has accepted them, and is asked neither."""

    company = forms.CharField(
        max_length=120,
        error_messages={"required": _("Name your company, or yourself.")},
        label=_("Company"),
        help_text=_("Or your name; it is what invoices say until you fill in a billing profile."),
        widget=forms.TextInput(attrs={"autocomplete": "organization", "placeholder": _("Company")}),
    )
    terms = forms.BooleanField(
        error_messages={"required": _("Without the terms there is no account.")}
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if followed_invitation(context.request) is not None:
            del self.fields["company"], self.fields["terms"]
            return
        version, url = settings.RELAY_TERMS_VERSION, settings.RELAY_TERMS_URL
        label = gettext("I accept the terms (version %(version)s)") % {"version": version}
        if url:
            label = format_html('{}: <a href="{}">{}</a>', label, url, url)
        self.fields["terms"].label = label

    def signup(self, request: HttpRequest, user: User) -> None:
        """Called by allauth once the user is saved, in the same transaction. What they read this
        page in is the language they are written to."""
        languages.choose(user, get_language())
        if "company" in self.fields:
            open_account(
                user=user,
                company=self.cleaned_data["company"],
                from_address=request.META.get("REMOTE_ADDR"),
            )


class SecondFactorAdapter(DefaultMFAAdapter):
    """Keeps TOTP seeds and recovery codes encrypted: whoever has only the database has none."""

    def encrypt(self, text: str) -> str:
        return _fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _fernet().decrypt(encrypted_text.encode()).decode()


def _fernet() -> MultiFernet:
    """By the secret key; earlier ones still decrypt."""
    keys = (str(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))
    digests = (hashlib.sha256(f"relay.second-factor:{key}".encode()).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
