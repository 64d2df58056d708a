"""What a receiver checks: the signature of a body, and the secret it is made with. Pure.

A secret is derived, never stored: HMAC-SHA256 of the relay's own key over the endpoint's id and
the number of its rotations. So a dump of the database alone signs nothing, nothing has to be
decrypted, and the relay can show a secret once and still sign with it for years.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

HEADER = "X-Relay-Signature"
DELIVERY_HEADER = "X-Relay-Delivery"
#: A receiver should refuse what was signed longer ago: somebody may have kept it.
TOLERANCE_S = 300
FINGERPRINT_CHARS = 12
_PURPOSE = b"hl-relay webhook secret\x00"


@dataclass(frozen=True, slots=True)
class Secret:
    """What signs for one endpoint. `text` is what the customer got, all of it the HMAC key."""

    text: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Tells secrets apart without telling them."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:FINGERPRINT_CHARS]


def derive(relay_key: str, *, endpoint: UUID, generation: int) -> Secret:
    """The secret of an endpoint after `generation` rotations."""
    message = _PURPOSE + endpoint.bytes + generation.to_bytes(4, "big")
    digest = hmac.digest(relay_key.encode(), message, "sha256")
    return Secret("whsec_" + base64.urlsafe_b64encode(digest).decode().rstrip("="))


def find(
    relay_keys: Iterable[str], *, endpoint: UUID, generation: int, fingerprint: str
) -> Secret | None:
    """The secret that was shown, whichever of the relay's keys it came from; None when that key is
    gone."""
    for relay_key in relay_keys:
        secret = derive(relay_key, endpoint=endpoint, generation=generation)
        if hmac.compare_digest(secret.fingerprint, fingerprint):
            return secret
    return None


def header(secrets: Sequence[Secret], *, body: bytes, at_s: int) -> str:
    """The value of `X-Relay-Signature`: the second of signing, and one `v1` for each secret."""
    return ",".join([f"t={at_s}", *(f"v1={_sign(secret, body, at_s)}" for secret in secrets)])


def _sign(secret: Secret, body: bytes, at_s: int) -> str:
    return hmac.new(secret.text.encode(), b"%d." % at_s + body, "sha256").hexdigest()
