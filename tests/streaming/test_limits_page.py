"""The page about limits says what the code does."""

from __future__ import annotations

import re

from gateway.http.info import DEFAULT_RATE, INFO_WEIGHT
from streaming.core.outbox import MAX_LAG_S
from streaming.ws import close_codes
from streaming.ws.close_codes import CloseCode
from streaming.ws.consumer import HANDSHAKE_WEIGHT
from tenants.admission import errors
from tenants.admission.principal import DEFAULT_MAX_LAG_S
from tenants.models import MAX_LISTED
from tenants.services import MAX_OVERLAP
from tests.support.edge import ROOT

PAGE = (ROOT / "docs" / "limits.md").read_text()


def test_every_limit_is_there_with_its_value() -> None:
    here = {name: value for name, value in vars(close_codes).items() if name.isupper()}
    here |= {"MAX_LAG_S": MAX_LAG_S}
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+) ", PAGE, flags=re.MULTILINE))
    assert {name: int(value.replace(",", "")) for name, value in told.items()} == here
    assert MAX_LAG_S == DEFAULT_MAX_LAG_S


def test_every_close_code_is_there() -> None:
    told = re.findall(r"^\| (\d{4}) \| `([A-Z_]+)` ", PAGE, flags=re.MULTILINE)
    assert [(int(code), name) for code, name in told] == [(int(c), c.name) for c in CloseCode]


def test_every_refusal_of_a_handshake_is_there() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (`.*?`) \|", PAGE, flags=re.MULTILINE)
    told = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    # An answer to something asked over an open connection.
    elsewhere = {errors.TooManySubscriptions}
    assert told == {(k.http_status, k.code) for k in errors.KINDS if k not in elsewhere}


def test_what_a_key_may_is_there() -> None:
    assert f"up to {MAX_LISTED} networks" in PAGE
    assert f"up to {MAX_LISTED} web pages" in PAGE
    assert f"{DEFAULT_RATE.per_minute:,} a minute and a burst of {DEFAULT_RATE.burst}" in PAGE
    assert INFO_WEIGHT == HANDSHAKE_WEIGHT == 1
    assert f"0 seconds to {MAX_OVERLAP.days} days" in PAGE
