"""Laws of the pauses and of the signatures; the customers' own snippet verifies what we sign."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.notices import schedule, signature
from tenants.notices.kinds import (
    KINDS,
    MAX_PAYLOAD_BYTES,
    canonical_dedupe,
    check_payload,
    encode,
)
from tests.support.relay import ROOT

luck = st.floats(0, 1, exclude_max=True)
relay_keys = st.text(min_size=1)
endpoints = st.uuids()
generations = st.integers(0, 2**32 - 1)

Verify = Callable[..., bool]


@given(st.integers(1, 10_000), luck, luck)
def test_pauses_are_bounded_and_never_shrink_by_more_than_luck(
    attempts: int, one: float, other: float
) -> None:
    now, later = (schedule.pause_s(attempts + n, luck=x) for n, x in ((0, one), (1, other)))
    assert schedule.FIRST_PAUSE_S * 2 / 3 <= now <= schedule.LONGEST_PAUSE_S
    assert later >= now * 2 / 3
    assert schedule.quiet(attempts, luck=one).total_seconds() <= schedule.LONGEST_QUIET_S


@given(st.integers(1, schedule.MAX_ATTEMPTS - 1), luck, luck)
def test_more_attempts_wait_longer_until_the_longest(
    attempts: int, one: float, other: float
) -> None:
    if schedule.pause_s(attempts + 1, luck=0) < schedule.LONGEST_PAUSE_S:
        assert schedule.pause_s(attempts + 1, luck=one) > schedule.pause_s(attempts, luck=other)


def test_all_attempts_together_take_days_and_then_there_are_none() -> None:
    for lucky, least_d, most_d in ((0.0, 4, 5), (0.999, 3, 4)):
        pauses = [schedule.next_pause(n, luck=lucky) for n in range(1, schedule.MAX_ATTEMPTS)]
        days = sum(pause.total_seconds() for pause in pauses if pause) / 86_400
        assert least_d <= days <= most_d
    assert schedule.next_pause(schedule.MAX_ATTEMPTS, luck=0) is None
    for attempts, unlucky in ((0, 0.0), (1, 1.0), (1, -0.1)):
        with pytest.raises(ValueError, match="attempts"):
            schedule.pause_s(attempts, luck=unlucky)


@given(relay_keys, endpoints, generations)
def test_a_secret_is_always_the_same_and_no_other_has_it(
    key: str, endpoint: UUID, generation: int
) -> None:
    secret = signature.derive(key, endpoint=endpoint, generation=generation)
    assert secret == signature.derive(key, endpoint=endpoint, generation=generation)
    assert re.fullmatch(r"whsec_[A-Za-z0-9_-]{43}", secret.text)
    assert secret.text not in repr(secret)
    other = UUID(int=endpoint.int ^ 1)
    others = [
        signature.derive(key + "x", endpoint=endpoint, generation=generation),
        signature.derive(key, endpoint=other, generation=generation),
        signature.derive(key, endpoint=endpoint, generation=(generation + 1) % 2**32),
    ]
    assert len({secret.text, *(one.text for one in others)}) == 4
    options = {"endpoint": endpoint, "generation": generation}
    assert (
        signature.find(["other", key], fingerprint=secret.fingerprint, **options) == secret
        or key == "other"
    )
    assert signature.find([key + "x"], fingerprint=secret.fingerprint, **options) is None


@pytest.fixture(scope="module")
def documented() -> Verify:
    """`verify` as docs/webhooks.md gives it to customers."""
    text = (ROOT / "docs" / "webhooks.md").read_text("utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippet.splitlines()) <= 20
    names: dict[str, Verify] = {}
    exec(snippet, names)  # noqa: S102 - it is our own documentation
    return names["verify"]


@given(st.binary(max_size=200), st.integers(0, 2**33), st.text(min_size=1), st.text(min_size=1))
def test_the_documented_snippet_agrees(
    documented: Verify, body: bytes, at_s: int, one: str, other: str
) -> None:
    new, old = (signature.derive(key, endpoint=UUID(int=7), generation=1) for key in (one, other))
    header = signature.header([new], body=body, at_s=at_s)
    assert documented(new.text, header, body, now=at_s)
    assert documented(new.text, header, body, now=at_s + 300)
    assert not documented(new.text, header, body, now=at_s + 301)
    assert not documented(new.text, header, body, now=at_s - 301)
    assert not documented(new.text, header, body + b"x", now=at_s)
    later = header.replace(f"t={at_s}", f"t={at_s + 1}")
    assert not documented(new.text, later, body, now=at_s)
    assert documented(old.text, header, body, now=at_s) == (one == other)
    both = signature.header([new, old], body=body, at_s=at_s)
    assert documented(new.text, both, body, now=at_s)
    assert documented(old.text, both, body, now=at_s)


@pytest.mark.parametrize(
    "header", ["", "t=", "t=x,v1=00", "v1=00", "t=1", "t=1,v1=", "t=1,v2=00", ",,=,", "t=1,v1=é"]
)
def test_the_documented_snippet_survives_garbage(documented: Verify, header: str) -> None:
    assert not documented("whsec_x", header, b"{}", now=1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_keys_does_not_change_the_bytes(value: dict[str, object]) -> None:
    try:
        text = encode(value)
    except ValueError:  # lone surrogates are no text
        return
    assert encode(dict(reversed(value.items()))) == text


@pytest.mark.parametrize(
    ("kind", "payload", "told"),
    [
        ("quota.exploded", {}, "unknown kind"),
        ("invoice.sent", {"number": "1"}, "lacks total, currency, due_on"),
        ("ping", {"x": float("nan")}, "not JSON"),
        ("ping", {"x": object()}, "not JSON"),
        ("ping", {"x": "\ud800"}, "not JSON"),
        ("ping", {"x": "x" * MAX_PAYLOAD_BYTES}, "at most 16,384"),
        ("ping", {"note": f"key hlr_live_{'a' * 38} is new"}, "holds an API key"),
    ],
)
def test_what_no_payload_can_be(kind: str, payload: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_payload(kind, payload)


def test_a_fact_is_one_whatever_its_case() -> None:
    assert canonical_dedupe("INV-2026:7") == "inv-2026:7"
    for bad in ("", "two words", "ü", "x" * 121, "line\n"):
        with pytest.raises(ValueError, match="dedupe"):
            canonical_dedupe(bad)


def test_every_kind_has_its_mail() -> None:
    for kind in KINDS:
        assert (ROOT / "templates" / "mail" / f"{kind}.txt").is_file()


def test_the_pure_modules_need_no_django() -> None:
    names = "schedule, signature, kinds"
    code = f"from tenants.notices import {names}; import sys; assert 'django' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(ROOT))
