"""What an invoice refuses: each says in one line what, and what to do instead."""

from __future__ import annotations


class InvoicingError(Exception):
    """The books do not allow it. Its text is for whoever asked."""


class NotYetError(InvoicingError):
    """Something else has to come first."""


class LockedError(InvoicingError):
    """It would be booked in a locked period."""


class ApprovalError(InvoicingError):
    """Somebody else has to approve it."""
