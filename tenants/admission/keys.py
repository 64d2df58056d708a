"""API keys: their format, their checksum, and what we store of them.

A key is `hlr_live_` or `hlr_test_`, 32 random base62 characters (190 bits) and 6 checksum
characters; `hlr_web_` instead is a token of the dashboard, which a browser has for minutes. The
checksum lets everybody (us, a customer's secret scanner) tell a mistyped or invented key from a
real one without asking a server.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from enum import StrEnum

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARS = 32
CHECKSUM_CHARS = 6  # 62**6 > 2**32, so a CRC-32 always fits
#: What operators and customers see of a key afterwards: `hlr_live_` and three characters (18 of its
#: 190 bits).
SHOWN_CHARS = 12

#: For secret scanners; confirm a hit with `is_well_formed`, which no random text passes (1 in 4
#: billion).
SCANNER_PATTERN = r"\bhlr_(?:live|test|web)_[0-9A-Za-z]{38}\b"
#: Before the digests of dashboard tokens, which are in a table of their own.
WEB_DIGEST = "web:"
_WHOLE = re.compile(r"hlr_(live|test|web)_[0-9A-Za-z]{38}")


class Environment(StrEnum):
    """Whether a key moves real money or is for trying things, or is a token of the dashboard."""

    LIVE = "live"
    TEST = "test"
    WEB = "web"


def generate(environment: Environment) -> str:
    """A new key. It exists nowhere else: whoever called shows it once and forgets it."""
    body = f"hlr_{environment}_" + "".join(secrets.choice(BASE62) for _ in range(RANDOM_CHARS))
    return body + checksum(body)


def checksum(body: str) -> str:
    """The six characters that end a key beginning with `body`: its CRC-32 in base62, most
    significant first."""
    rest = zlib.crc32(body.encode("ascii"))
    characters = []
    for _ in range(CHECKSUM_CHARS):
        rest, index = divmod(rest, 62)
        characters.append(BASE62[index])
    return "".join(reversed(characters))


def is_well_formed(raw_key: str) -> bool:
    """Whether `raw_key` could be a key of ours; needs no server. It says nothing about its being
    known."""
    if _WHOLE.fullmatch(raw_key) is None:
        return False
    return checksum(raw_key[:-CHECKSUM_CHARS]) == raw_key[-CHECKSUM_CHARS:]


def digest(raw_key: str, pepper: str = "") -> str:
    """What we store instead of the key, as 64 hex digits: SHA-256, or HMAC-SHA-256 when there is a
    pepper; a dashboard token's begins with `WEB_DIGEST`.

    A slow hash would buy nothing: 190 random bits cannot be guessed, and this runs at every
    handshake. Setting or changing the pepper invalidates every key issued before.
    """
    data = raw_key.encode("utf-8", "surrogatepass")
    if pepper:
        made = hmac.digest(pepper.encode(), data, "sha256").hex()
    else:
        made = hashlib.sha256(data).hexdigest()
    # As long as the others: 240 bits of it are as good as all.
    return f"{WEB_DIGEST}{made[4:]}" if raw_key.startswith("hlr_web_") else made


def shown(raw_key: str) -> str:
    """The part of a key that may be displayed and logged."""
    return raw_key[:SHOWN_CHARS]
