"""What a tenant can be told, and what each notice says at least. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tenants.admission.keys import SCANNER_PATTERN

MAX_PAYLOAD_BYTES = 16_384
MAX_DEDUPE_CHARS = 120

PING = "ping"
WEBHOOK_DISABLED = "webhook.disabled"

#: The fields that each kind's mail speaks of; a payload may hold more. Amounts are decimal text,
#: times ISO 8601 in UTC.
KINDS: dict[str, tuple[str, ...]] = {
    "quota.warning": ("allowance", "used", "limit", "percent", "resets_at"),
    "quota.reached": ("allowance", "used", "limit", "percent", "resets_at"),
    "invoice.sent": ("number", "total", "currency", "due_on"),
    "invoice.overdue": ("number", "total", "currency", "due_on"),
    "credit_note.sent": ("number", "invoice", "total", "currency"),
    "payment.failed": ("number", "amount", "currency", "reason", "next_attempt_at"),
    "key.rotated": ("prefix", "ends_at"),
    "gap.recorded": ("stream", "from", "to", "reason"),
    WEBHOOK_DISABLED: ("endpoint", "reason"),
    PING: (),
}
#: What an endpoint can choose to get. A ping comes when somebody asks for it.
SUBSCRIBABLE = tuple(kind for kind in KINDS if kind != PING)

#: What is mailed to members, to others or not at all, as their tenant chose. That a key was
#: replaced is mailed to those whose business it is in any case: whoever stole another could silence
#: it. The rest is mailed to whom the billing profile names, or to nobody.
MAILED_TO_MEMBERS = (
    "quota.warning",
    "quota.reached",
    "gap.recorded",
    WEBHOOK_DISABLED,
)

_DEDUPE = re.compile(rf"[!-~]{{1,{MAX_DEDUPE_CHARS}}}")
_API_KEY = re.compile(SCANNER_PATTERN)


def check_payload(kind: str, payload: Mapping[str, Any]) -> None:
    """Raises ValueError for a kind nobody knows, a field that is missing, what JSON cannot say, too
    much, and an API key: what is sent is read by mail servers and kept in logs."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of notice {kind!r}; known are {', '.join(KINDS)}")
    if missing := [name for name in KINDS[kind] if name not in payload]:
        raise ValueError(f"{kind}: the payload lacks {', '.join(missing)}")
    try:
        text = encode(payload)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind}: the payload is not JSON: {error}") from None
    if len(text) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{kind}: {len(text):,} bytes of payload; at most {MAX_PAYLOAD_BYTES:,}")
    if _API_KEY.search(text.decode()):
        raise ValueError(f"{kind}: the payload holds an API key; name its prefix instead")


def canonical_dedupe(text: str) -> str:
    """As it is compared: in lower case, because the databases differ on it. Raises ValueError."""
    if not _DEDUPE.fullmatch(text):
        raise ValueError(
            f"dedupe {text[:40]!r}: 1 to {MAX_DEDUPE_CHARS} printable ASCII characters, no spaces"
        )
    return text.lower()


def encode(value: Mapping[str, Any]) -> bytes:
    """JSON with its keys in order: the same bytes at each attempt, whatever the database did to
    them. Raises TypeError or ValueError for what JSON cannot say."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
