"""What the hub answers says how old it is, and is left to upstreams while no block comes."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.http import own, served
from gateway.http.routes import Source
from streaming.core.envelope import Position

BOOK = b'{"channel":"l2Book","data":{"coin":"BTC","time":%d,"levels":[[],[]]}}'
ASKED = {"type": "l2Book", "coin": "BTC"}


def runtime_of(*, is_of_nodes: bool, silence_ms: float = 0.0, age_ms: float = 100.0) -> Any:
    """A process whose hub has a book of three seconds ago."""
    frame = BOOK % int((time.time() - 3) * 1_000)
    feed = SimpleNamespace(
        epoch="e",
        is_of_nodes=is_of_nodes,
        position=Position(7),
        snapshot=SimpleNamespace(frame=lambda: frame),
    )
    freshness = SimpleNamespace(silence_ms=lambda now_s: silence_ms, age_ms=lambda now_s: age_ms)
    hub = SimpleNamespace(touch=lambda topic, now_s: feed, freshness=freshness)
    catalogue = SimpleNamespace(knows=lambda topic: True)
    return SimpleNamespace(workers={"w": {}}, hub=hub, catalogue=lambda: catalogue)


async def asked(runtime: Any, *, may_be_old: bool = False) -> served.Served | None:
    return await own.answer(runtime, "l2Book", ASKED, may_be_old=may_be_old)


async def test_a_quiet_coin_of_a_node_is_as_old_as_its_newest_block() -> None:
    answer = await asked(runtime_of(is_of_nodes=True))
    assert answer is not None
    assert (answer.source, answer.height, answer.cache) == (Source.HUB, 7, served.NONE)
    assert time.monotonic() - answer.made_s == pytest.approx(0.1, abs=0.05)


async def test_a_public_book_is_as_old_as_it_says() -> None:
    answer = await asked(runtime_of(is_of_nodes=False))
    assert answer is not None
    assert answer.height is None
    assert time.monotonic() - answer.made_s == pytest.approx(3.0, abs=0.2)


async def test_without_blocks_an_upstream_is_asked_first_and_the_old_book_is_the_last_resort() -> (
    None
):
    stalled = runtime_of(is_of_nodes=True, silence_ms=3_000.0, age_ms=3_000.0)
    assert await asked(stalled) is None
    answer = await asked(stalled, may_be_old=True)
    assert answer is not None
    assert int(dict(answer.headers())[b"x-relay-age-ms"]) >= 3_000
