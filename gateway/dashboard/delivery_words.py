"""Why a webhook was not delivered, as people read it. Written down in English where it was tried,
in a process that knows no reader (`tenants/wire/outbound.py`, `tenants/notices/webhooks.py`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_noop as _

#: Those that are always the same.
_PLAIN = frozenset(
    {
        _("the host name does not resolve"),
        _("no TLS connection"),
        _("no connection"),
        _("the answer is not HTTP"),
        _("the connection was closed before an answer"),
        _("a fault of the relay's own"),
        _("SECRET_KEY changed since the secret was shown; rotate the secret"),
        _("the host has an address we do not send to: private (RELAY_WEBHOOKS_PRIVATE is off)"),
        _("the host has an address we do not send to: link-local"),
        _("the host has an address we do not send to: reserved"),
        _("the host name has no address"),
        # Why an endpoint is disabled.
        _("by you"),
        _("by an operator"),
        _("closed by its owner"),
    }
)
#: The others, with what is put into them; `why` and `error` are sentences of this kind themselves.
_WITH: Sequence[tuple[re.Pattern[str], object]] = (
    (re.compile(r"answered (?P<status>\d{3})"), gettext_lazy("answered %(status)s")),
    (
        re.compile(r"answered (?P<status>\d{3}); redirects are not followed"),
        gettext_lazy("answered %(status)s; redirects are not followed"),
    ),
    (
        re.compile(r"no answer within (?P<seconds>[\d.]+) s"),
        gettext_lazy("no answer within %(seconds)s s"),
    ),
    (
        re.compile(r"the certificate was refused: (?P<why>.*)"),
        gettext_lazy("the certificate was refused: %(why)s"),
    ),
    (re.compile(r"not sent: (?P<why>.*)"), gettext_lazy("not sent: %(why)s")),
    (
        re.compile(r"no delivery succeeded for (?P<days>\d+) days; last: (?P<why>.*)"),
        gettext_lazy("no delivery succeeded for %(days)s days; last: %(why)s"),
    ),
)


def why_not(text: str) -> str:
    """An error or a reason in the reader's language; one that nobody foresaw as it is."""
    if text in _PLAIN:
        return gettext(text)
    for pattern, form in _WITH:
        if found := pattern.fullmatch(text):
            values = found.groupdict()
            if "why" in values:
                values["why"] = why_not(values["why"])
            return str(form) % values
    return text
