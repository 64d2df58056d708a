"""The collector looks by the loop's clock, and at no other time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streaming import garbage


class Loop:
    """As much of one as is asked: `calls` are what is to be done, by when."""

    def __init__(self) -> None:
        self.calls: dict[float, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def call_later(self, delay_s: float, call: Callable[..., None], *given: Any) -> None:
        """Once."""
        assert delay_s not in self.calls
        self.calls[delay_s] = call, given

    def pass_by(self, delay_s: float) -> None:
        """Do what was to be done then."""
        call, given = self.calls.pop(delay_s)
        call(*given)


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def loop() -> Iterator[Any]:
    made = Loop()
    garbage.tame(made)  # type: ignore[arg-type]
    yield made
    gc.unfreeze()
    gc.enable()


def left() -> weakref.ref[Ring]:
    """What is left of a ring."""
    return weakref.ref(Ring())


def test_what_was_there_stays_and_nothing_is_looked_at_by_itself(loop: Loop) -> None:
    assert gc.get_freeze_count() > 10_000
    assert not gc.isenabled()
    ring = left()
    kept = [[] for _ in range(10 * gc.get_threshold()[0])]  # which would have set it off
    assert ring() is not None
    del kept
    assert set(loop.calls) == set(garbage.EVERY_S)


def test_each_look_finds_what_is_not_older_and_is_not_the_last(loop: Loop) -> None:
    young_s, middle_s, all_s = garbage.EVERY_S
    for _ in range(2):
        ring = left()
        loop.pass_by(young_s)
        assert ring() is None
        for looks, found_after_s in ((1, middle_s), (2, all_s)):
            held = Ring()
            ring = weakref.ref(held)
            for generation in range(looks):  # it grows old
                gc.collect(generation)
            del held
            loop.pass_by(young_s)
            if looks == 2:
                loop.pass_by(middle_s)
            assert ring() is not None
            loop.pass_by(found_after_s)
            assert ring() is None
    assert set(loop.calls) == set(garbage.EVERY_S)
