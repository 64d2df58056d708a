"""The token in an invitation's link.

Random, and made by the task that sends the mail: no task argument, row or log has ever held it. A
token signed with the secret key would need no digest, but whoever had that key could invite
themselves anywhere, and a new mail would not end the old link.
"""

from __future__ import annotations

import hashlib
import secrets

#: 256 bits, in 43 characters of base64.
TOKEN_BYTES = 32


def generate() -> str:
    """A new token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """What is kept of a token: SHA-256 in hex. Nothing slower is needed for 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()
