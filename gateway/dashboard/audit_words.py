"""Names of fields and values of the audit log in the reader's language."""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from gateway.dashboard.words import word

_FIELDS = frozenset(
    (
        # Of an account.
        _("name"),
        _("short name"),
        _("kind"),
        _("suspended at"),
        _("suspension reason"),
        _("suspended from"),
        _("announced reason"),
        _("support contact"),
        _("support e-mail"),
        _("support phone"),
        _("second factor asked of everybody"),
        _("closed at"),
        # Of a plan, and of limits.
        _("plan"),
        _("version"),
        _("started at"),
        _("trial ends at"),
        _("ended at"),
        _("max connections"),
        _("max subscriptions"),
        _("distinct coins"),
        _("distinct users"),
        _("lag of bulk readers, s"),
        _("requests a second"),
        _("burst"),
        _("hours of history"),
        _("products"),
        _("channels"),
        _("regions"),
        # Of a key and its guard rails.
        _("environment"),
        _("prefix"),
        _("scopes"),
        _("allowed addresses"),
        _("allowed origins"),
        _("rate per minute"),
        _("rate burst"),
        _("daily quota"),
        _("monthly quota"),
        _("owner"),
        _("note"),
        _("expires at"),
        _("rotated at"),
        _("revoked at"),
        _("kill switch"),
        _("cancels only"),
        _("allowed signers"),
        _("allowed actions"),
        _("allowed coins"),
        _("most of an order, USD"),
        _("most in a minute, USD"),
        # Of people.
        _("user"),
        _("role"),
        _("e-mail"),
        _("invited by"),
        _("accepted at"),
        _("accepted by"),
        _("withdrawn at"),
        # Of a billing profile.
        _("legal name"),
        _("address"),
        _("address, second line"),
        _("postal code"),
        _("city"),
        _("state or region"),
        _("country"),
        _("tax id"),
        _("tax name"),
        _("tax percent"),
        _("reverse charge text"),
        _("invoice e-mail"),
        # Of a webhook, and of alerts.
        _("URL"),
        _("events"),
        _("disabled at"),
        _("disabled reason"),
        _("secrets so far"),
        _("old secret signs until"),
        _("told at"),
        _("mailed events"),
        _("mailed roles"),
        _("mailed addresses"),
    )
)
_VALUES = frozenset((_("yes"), _("no"), _("support")))


def field_word(name: str) -> str:
    """The name of a field; as it is, where it is not here."""
    return gettext(name) if name in _FIELDS else name


def value_word(name: str, text: str) -> str:
    """A value of the field with this name, if it is one of our own words; else as it is."""
    if name in ("role", "mailed roles"):
        return ", ".join(map(word, text.split(", ")))
    return gettext(text) if text in _VALUES else text
