"""Why something of an account was not shown or done, each with a code that never changes."""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext as _


class AccountError(Exception):
    """`str()` is one line for the customer: what was wrong, the limit, what to do. In the language
    that is active where it is raised: a page's reader's, and English at every other door."""

    code: ClassVar[str] = "bad_request"
    http_status: ClassVar[int] = 400


class NotFound(AccountError):
    """There is no such thing in this account; also where it is another's."""

    code = "not_found"
    http_status = 404


class BadValue(AccountError):
    """A value that means nothing, or is out of its bounds."""

    code = "bad_value"


class BadCursor(AccountError):
    """A cursor that no answer of this list in this account gave."""

    code = "bad_cursor"

    def __init__(self) -> None:
        super().__init__(_("cursor: none of this list's; leave it out to begin again."))


class Conflict(AccountError):
    """It cannot be done as things stand."""

    code = "conflict"
    http_status = 409


class NotAllowed(AccountError):
    """A key may not do that to this one."""

    code = "not_allowed"
    http_status = 403


class Unavailable(AccountError):
    """What has to be asked for it does not answer now."""

    code = "unavailable"
    http_status = 503
