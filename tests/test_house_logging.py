"""No API key ever reaches a log, whoever logs it and however."""

from __future__ import annotations

import io
import json
import logging
import string
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from relay_site.logging import make_formatter, redact

BASE62 = string.digits + string.ascii_letters
KEY = "hlr_live_" + "Ab3" * 12 + "xy"


FORMS = pytest.mark.parametrize(
    "lines", [True, False], ids=["production", "embedded"], indirect=True
)


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the root logger writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make_formatter(is_production=request.param))
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


@FORMS
def test_message_arguments_fields_and_tracebacks(lines: io.StringIO) -> None:
    """Through the standard library and through structlog."""
    logging.getLogger("django.request").warning("Not Found: %s", f"/{KEY}/nothing")
    logging.getLogger("twisted").error("lost %r", {"path": KEY.encode()})
    structlog.get_logger("ours").warning("closed", path=f"/{KEY}/ws", nested={"a": [KEY]})
    try:
        raise ValueError(f"bad key {KEY}")
    except ValueError:
        logging.getLogger("celery").exception("task failed for %s", KEY)
    text = lines.getvalue()
    assert text.count("hlr_live_…") >= 6
    assert KEY not in text
    assert KEY[:20] not in text


@pytest.mark.parametrize("lines", [True], indirect=True)
def test_production_lines_are_json(lines: io.StringIO) -> None:
    """One object a line, with time, level and logger."""
    structlog.get_logger("ours").warning("closed", tenant="acme", code=4008)
    event = json.loads(lines.getvalue())
    assert event["event"] == "closed"
    assert event["level"] == "warning"
    assert event["logger"] == "ours"
    assert event["code"] == 4008
    assert event["at"].endswith("Z")


@given(
    before=st.text(),
    environment=st.sampled_from(["live", "test"]),
    body=st.text(alphabet=BASE62, min_size=38, max_size=38),
    after=st.text(),
    escaped=st.booleans(),
)
def test_any_key_in_any_text(
    before: str, environment: str, body: str, after: str, escaped: bool
) -> None:
    """Whatever surrounds it, also with its underscores percent-encoded."""
    line = "_" if not escaped else "%5F"
    key = f"hlr{line}{environment}{line}{body}"
    assert key not in redact(f"{before}{key}{after}")
    assert redact(key) == f"hlr_{environment}_…"


def test_what_is_shown_of_a_key_stays() -> None:
    """The first characters, by which operators and customers name a key, are no secret."""
    assert redact("key hlr_live_Ab3 revoked") == "key hlr_live_Ab3 revoked"
