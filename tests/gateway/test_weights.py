"""What an `/info` request weighs, before its answer is known and after."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.info import Info
from gateway.http.origins import Got
from gateway.http.router import Router
from gateway.http.routes import Source
from gateway.http.weights import weight_of, weight_of_answer
from gateway.upstreams.posts import Answer
from tenants.admission.control import AdmissionControl
from tenants.admission.directory import Directory
from tenants.admission.errors import RateLimited
from tenants.admission.limiter import Rate
from tenants.admission.principal import Principal
from tenants.admission.quotas import Occupancy
from tests.tenants.test_directory import principal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=130))
def test_items_are_those_of_the_list(items: list[Any]) -> None:
    body = orjson.dumps(items)
    assert weight_of_answer({"type": "userFills"}, body) == len(items) // 20
    assert weight_of_answer({"type": "candleSnapshot"}, body) == len(items) // 60
    assert weight_of_answer({"type": "openOrders"}, body) == 0


@pytest.mark.parametrize(
    "body", [b"null", b'{"code":1}', b"", b"[", b"[" * 99_999, b"\xff", b"<html>"]
)
def test_what_is_no_list_has_no_items(body: bytes) -> None:
    assert weight_of_answer({"type": "userFills"}, body) == 0


@pytest.mark.parametrize("payload", [None, [], "userFills", {"type": ["userFills"]}, {}])
def test_what_is_no_request_has_no_answer(payload: Any) -> None:
    assert weight_of_answer(payload, b"[1]" * 20) == 0


class _Origin:
    """An upstream that gives so many items, or an error about them."""

    def __init__(self, items: int, status: int) -> None:
        self.answer = Answer(status, b"application/json", orjson.dumps([{"px": "1"}] * items))

    async def ask(self, *_: object, **__: object) -> Got:
        return Got(self.answer, Source.PUBLIC, None, 0.0)


class Door:
    """`/info` of one process without Redis, of a key with a rate."""

    def __init__(self, items: int, *, status: int = 200) -> None:
        self.key: Principal = principal(
            scopes=frozenset({"info"}), rate=Rate(per_minute=1_200, burst=200)
        )
        self.now_s = 1_000.0
        self.control = AdmissionControl(
            Directory(load=lambda _: {}), Occupancy(), monotonic=lambda: self.now_s
        )
        nothing = SimpleNamespace(
            slot=lambda *_, **__: 0, add_requests=lambda *_: 0, add=lambda *_: 0
        )
        runtime: Any = SimpleNamespace(admission=self.control, meter=nothing, workers={})
        origin: Any = _Origin(items, status)
        self.info = Info(runtime, Router(runtime, origin))

    async def ask(self, kind: str) -> int:
        """What is left of the rate after an answer, as its header says."""
        _, headers = await self.info.serve({"type": kind, "user": "0x0"}, self.key)
        left = re.search(rb"r=(\d+)", dict(headers)[b"ratelimit"])
        assert left is not None
        return int(left[1])


async def test_a_long_answer_is_given_and_owed() -> None:
    door = Door(2_000)
    assert await door.ask("userFills") == 200 - weight_of({"type": "userFills"}) - 100
    assert await door.ask("userFills") == 0  # 80 were left of 120
    with pytest.raises(RateLimited) as refused:
        await door.ask("userRole")
    assert refused.value.retry_after_s == pytest.approx((40 + 60) / 20)
    door.now_s += 5.01
    assert await door.ask("userRole") == 0
    await door.control.aclose()


async def test_short_answers_others_and_errors_add_nothing() -> None:
    for door, kind in ((Door(19), "userFills"), (Door(2_000), "openOrders")):
        assert await door.ask(kind) == 180
        await door.control.aclose()
    refused = Door(2_000, status=422)
    assert await refused.ask("userFills") == 180
    await refused.control.aclose()
