"""Words of the layers below as people read them here, in their language.

Roles, rights and states have English names in the database and in the API, and those layers know
no languages. A page shows such a name with the filters `word` and `words`; a name that is not here
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

_ROLES = (
    _("owner"),
    _("admin"),
    _("developer"),
    _("finance"),
    _("viewer"),
)
_RIGHTS = (
    _("see usage"),
    _("see people"),
    _("see connections"),
    _("see keys"),
    _("manage keys"),
    _("see invoices"),
    _("pay invoices"),
    _("edit the billing profile"),
    _("change the plan"),
    _("edit the tenant"),
    _("accept the terms"),
    _("manage people"),
    _("manage owners"),
    _("delete the tenant"),
)
_MONEY = (
    # How something was paid.
    _("bank transfer"),
    _("card"),
    _("other"),
    # What moved in the wallet.
    _("top-up"),
    _("spend"),
    _("refund"),
    _("expiry"),
    _("adjustment"),
    # What was set against an invoice.
    _("payment → invoice"),
    _("payment ← invoice"),
    _("sent back"),
    _("taken back by the bank"),
    _("credit note → invoice"),
    _("invoice → wallet"),
    _("invoice → invoice"),
    _("written off"),
    # What happened to an invoice.
    _("finalized"),
    _("sent"),
    _("sent again"),
    _("partially paid"),
    _("paid"),
    _("open again"),
    _("credited"),
    _("credit note sent"),
    _("overdue"),
    _("reminded"),
    _("tenant suspended"),
    _("voided"),
)
_STATES = (
    # Of a key, and of a delivery.
    _("live"),
    _("test"),
    _("pending"),
    _("delivered"),
    _("failed"),
    _("abandoned"),
    # Of an upstream, and why nothing fresh comes from all of them.
    _("up"),
    _("idle"),
    _("lagging"),
    _("draining"),
    _("no books yet"),
    _("the workers cannot be asked"),
    _("no upstream worker"),
    _("books wait for a checkpoint"),
    _("no node writes blocks, and no public feed is connected"),
)
_FILES = (
    _("Invoices"),
    _("Lines"),
    _("Credit notes"),
    _("Lines of credit notes"),
    _("Payments"),
    _("What was settled"),
    _("Usage"),
    _("Taxes by document"),
    _("Taxes"),
)
#: What an estimate takes for granted in any case.
_GRANTED = (
    _("Rates are what this relay published in the last 24 hours; other days differ."),
    _("A month has 365/12 days."),
    _("First frames of subscriptions, and what a slow reader does not get, are left out."),
    _("Offers are without add-ons, discounts, own terms, tax and prepaid money."),
    _("Your own plan is with your add-ons, discounts and choice of overage, before tax."),
    _("Prices are a customer's: this account is metered and never invoiced."),
)
_WORDS = frozenset((*_ROLES, *_RIGHTS, *_MONEY, *_STATES, *_FILES, *_GRANTED))


def word(name: str) -> str:
    """A role, a right, a state or a file's title in the reader's language."""
    return gettext(name) if name in _WORDS else name


def words(names: Iterable[str]) -> str:
    """Several of them, joined by commas."""
    return ", ".join(word(name) for name in names)
