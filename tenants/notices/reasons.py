"""Why something was told, in the reader's language.

A notice holds its reason in English, for programs and for its log. Those that the relay itself
gives are translated where a mail shows them; a bank's or a person's words stay as they are.
"""

from __future__ import annotations

import re

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

_KNOWN = (
    _("by you"),
    _("by an operator"),
    _("closed by its owner"),
    _("no delivery succeeded for %(days)s days; last: %(error)s"),
    _("the bank refused it"),
    _("the bank asks you to confirm it"),
    _("%(minutes)s minutes with gaps (%(coins)s)"),
)


def _pattern(text: str) -> re.Pattern[str]:
    """What a known reason looks like once its values are in."""
    parts = re.split(r"%\((\w+)\)s", text)
    return re.compile(
        "".join(
            f"(?P<{part}>.+)" if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        ),
        re.DOTALL,
    )


_PATTERNS = tuple((_pattern(text), text) for text in _KNOWN)


def translated(reason: str) -> str:
    """The reason in the language that is active."""
    for pattern, text in _PATTERNS:
        if (found := pattern.fullmatch(reason)) is not None:
            return gettext(text) % found.groupdict()
    return reason
