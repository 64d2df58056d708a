"""The page about limits says what the code does."""

from __future__ import annotations

import re

from streaming.core.outbox import MAX_LAG_S
from streaming.ws import close_codes
from streaming.ws.close_codes import CloseCode
from tenants.admission import errors
from tenants.admission.principal import DEFAULT_MAX_LAG_S
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
    # These two are answers to something asked over an open connection, and of HTTP.
    elsewhere = {errors.TooManySubscriptions, errors.RateLimited}
    assert told == {(k.http_status, k.code) for k in errors.KINDS if k not in elsewhere}
