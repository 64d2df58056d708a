"""What the estimator's form says is what the relay can be asked."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.http import QueryDict

from gateway.dashboard.estimator import (
    COIN_CHANNELS,
    PRESETS,
    USER_CHANNELS,
    WHOLE_CHANNELS,
    Preset,
    Wish,
    in_other_form,
)
from streaming.core.catalogue import Catalogue
from streaming.core.dialects import relay

COINS = Catalogue(frozenset({"BTC", "ETH", "SOL", "HYPE", "XRP", "xyz:ONE", "PURR/USDC"}))


def topics(wish: Wish) -> int:
    return sum(
        len(relay.parse_subscription(dict(one.subscription), COINS)[0]) for one in wish.asked()
    )


@pytest.mark.parametrize("channel", [*COIN_CHANNELS, *WHOLE_CHANNELS, *USER_CHANNELS])
def test_each_channel_can_be_followed(channel: str) -> None:
    wish = Wish(channels=(channel,), coins=("BTC", "ETH"), accounts=2)
    assert topics(wish) == (1 if channel in WHOLE_CHANNELS else 2)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda one: str(one.name))
def test_each_preset_can_be_followed(preset: Preset) -> None:
    assert topics(preset.wish) > 0
    assert Wish.read(QueryDict(preset.wish.params())) == preset.wish


def test_a_whole_market_is_all_its_coins() -> None:
    assert topics(Wish(channels=("trades",), markets=("perp",))) == 5
    assert topics(Wish(channels=("trades",), markets=("perp", "spot", "hip3"))) == 7


@pytest.mark.parametrize(
    "query",
    [
        "accounts=-1&connections=x&hours=nan",
        "accounts=99999999999999&connections=0&hours=1e999",
        "hours=-3&hours=25&channel=nope&market=nope",
        "hours=sNaN&connections=²",
    ],
)
def test_what_means_nothing_is_left_out(query: str) -> None:
    wish = Wish.read(QueryDict(query))
    assert not wish
    assert 1 <= wish.accounts <= 100
    assert 1 <= wish.connections <= 10_000
    assert 0 < wish.hours <= 24


def test_coins_are_added_in_a_list() -> None:
    wish = Wish.read(QueryDict("coin=BTC&add=ETH, SOL,,BTC&hours=7.5"))
    assert wish.coins == ("BTC", "ETH", "SOL")
    assert wish.hours == Decimal("7.5")


def test_a_book_has_another_form() -> None:
    found = in_other_form(Wish(channels=("trades", "l2Book"), coins=("BTC",)))
    assert found is not None
    assert found[0].channels == ("trades", "l2Diff")
    assert in_other_form(Wish(channels=("l2Book", "l2Diff"))) is None
    assert in_other_form(Wish(channels=("trades",))) is None
