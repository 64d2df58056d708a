"""The page about limits says what the code does."""

from __future__ import annotations

import re

from billing.free import ALWAYS_FREE
from gateway.http.info import DEFAULT_RATE
from gateway.http.weights import DEFAULT_WEIGHT, ITEMS, LEAST_WEIGHT, WEIGHTS
from streaming.core.counted import Reason
from streaming.core.outbox import MAX_LAG_S
from streaming.ws import close_codes
from streaming.ws.close_codes import CloseCode
from streaming.ws.consumer import HANDSHAKE_WEIGHT
from tenants.admission import errors
from tenants.admission.allowances import SETTLE_EVERY_S
from tenants.admission.principal import DEFAULT_MAX_LAG_S, THRESHOLDS
from tenants.admission.wrong_keys import WRONG_BURST, WRONG_PER_MINUTE
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
    elsewhere = {errors.TooManySubscriptions, errors.TooManyCoins, errors.TooManyUsers}
    assert told == {(k.http_status, k.code) for k in errors.KINDS if k not in elsewhere}


def test_what_a_key_may_is_there() -> None:
    assert f"up to {MAX_LISTED} networks" in PAGE
    assert f"up to {MAX_LISTED} web pages" in PAGE
    assert f"{DEFAULT_RATE.per_minute:,} a minute and a burst of {DEFAULT_RATE.burst:,}" in PAGE
    assert f"0 seconds to {MAX_OVERLAP.days} days" in PAGE


def test_every_weight_is_there() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|$", PAGE, flags=re.MULTILINE)
    told = {kind: int(weight) for weight, kinds in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert {kind: told[kind] for kind in WEIGHTS} == WEIGHTS
    assert f"| {DEFAULT_WEIGHT} | every other type" in PAGE
    rows = re.findall(r"^\| 1 more for each (\d+) items.*? \| (.*?) \|$", PAGE, flags=re.MULTILINE)
    told = {kind: int(items) for items, kinds in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert told == ITEMS
    assert HANDSHAKE_WEIGHT == LEAST_WEIGHT == 1
    assert "| 1 | a handshake; a body that is no request |" in PAGE


def test_how_allowances_are_told_and_end_is_there() -> None:
    *most, last = map(str, THRESHOLDS)
    assert f"{', '.join(most)} and {last} %" in PAGE
    assert f"`SETTLE_EVERY_S` ({SETTLE_EVERY_S:g} second)" in PAGE
    assert f"more than {WRONG_BURST} wrong keys, and {WRONG_PER_MINUTE} a minute more" in PAGE


def test_every_reason_why_something_is_free_is_on_the_page_of_usage() -> None:
    """And none that is never told."""
    page = (ROOT / "docs" / "usage.md").read_text()
    table = page[page.index("| reason | what |") : page.index("## By coin")]
    told = set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE))
    assert told == {str(reason) for reason in Reason if reason} == set(ALWAYS_FREE)
