"""Names that exist upstream do not go missing because something failed for a moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.catalogue import NAMES_KEPT_S, Catalogue, Names
from streaming.upstream.sources.info import InfoFailed, collect_catalogue, pause_s

ANSWERS = {
    "meta": {"universe": [{"name": "BTC"}]},
    "perpDexs": [None, {"name": "xyz"}],
    "meta xyz": {"universe": [{"name": "xyz:GOLD"}]},
    "spotMeta": {"universe": [{"name": "@107"}]},
    "outcomeMeta": {"outcomes": [{"outcome": 751}]},
}
ALL = Catalogue(frozenset({"BTC", "xyz:GOLD", "@107", "#7510", "#7511"}), frozenset({"xyz"}))
OPTIONAL = sorted(ANSWERS.keys() - {"meta"})
PASSING = ["a: HTTP 429", "a: HTTP 500", "a: HTTP 408", "a: TimeoutError", "spotMeta: not JSON"]


def collect(failing: dict[str, str], *, before: Catalogue) -> tuple[Catalogue, bool, list[str]]:
    asked = []

    async def ask(body: dict[str, Any]) -> Any:
        name = " ".join(filter(None, (body["type"], body.get("dex"))))
        asked.append(name)
        if name in failing:
            raise InfoFailed(failing[name])
        return ANSWERS[name]

    return *asyncio.run(collect_catalogue(ask, before=before)), asked


def test_what_is_refused_is_not_there() -> None:
    found, is_whole, _ = collect({"outcomeMeta": "a: HTTP 422"}, before=ALL)
    assert (found.coins, is_whole) == (ALL.coins - {"#7510", "#7511"}, True)
    assert collect({}, before=Catalogue())[:2] == (ALL, True)


@given(st.dictionaries(st.sampled_from(OPTIONAL), st.sampled_from(PASSING), min_size=1))
def test_what_fails_for_a_moment_takes_no_name_away(failing: dict[str, str]) -> None:
    found, is_whole, asked = collect(failing, before=ALL)
    assert (found, is_whole) == (ALL, False)
    limited = [name for name in asked if failing.get(name, "").endswith("429")]
    assert asked[-1] in limited or not limited  # then nothing more is asked


def test_without_the_perps_nothing_is_known() -> None:
    with pytest.raises(InfoFailed):
        collect({"meta": "a: HTTP 429"}, before=ALL)


@given(st.integers(1, 40))
def test_pauses_grow_and_are_not_all_the_same(failures: int) -> None:
    pauses = {pause_s(failures, least_s=2.0, most_s=60.0) for _ in range(5)}
    assert len(pauses) > 1
    assert all(1.5 <= pause <= 75.0 for pause in pauses)
    assert failures < 6 or min(pauses) >= 45.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sets(st.sampled_from(["BTC", "ETH", "SOL"])), st.floats(0, 90)
        )
    )
)
def test_names_are_those_of_every_source_s_last_word(notes) -> None:
    names, now_s, last = Names(), 0.0, {}
    for source, coins, passed_s in notes:
        now_s += passed_s
        names.note(source, Catalogue(frozenset(coins)), now_s=now_s)
        if coins:
            last[source] = coins, now_s
        fresh = [coins for coins, at_s in last.values() if now_s - at_s <= NAMES_KEPT_S]
        assert names.all(now_s=now_s).coins == set().union(*fresh)


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [
        ("a: HTTP 422", True),
        ("a: HTTP 429", False),
        ("a: HTTP 502", False),
        ("node0 has no info= address", True),
        ("gateway0: h:1: failed_precondition: this gateway has no info address", True),
        ("gateway0: h:1: unavailable: refused", False),
    ],
)
def test_a_refusal_is_an_answer_and_anything_else_a_moment(text: str, is_refusal: bool) -> None:
    assert InfoFailed(text).is_refusal is is_refusal
