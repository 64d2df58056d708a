"""No limit of the exchange is ever passed, and nobody keeps more than their share from others."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.public_frames import slot_of
from streaming.core.topic import Kind, Topic
from streaming.upstream.budget import Limits, PublicBudget, Window

SMALL = Limits(connections=3, subscriptions=8, users=4, book_variants_per_coin=2)


def user(number: int) -> str:
    return f"0x{number:040x}"


def fills(number: int) -> Topic:
    return Topic(Kind.USER_FILLS, user=user(number))


def trades(number: int) -> Topic:
    return Topic(Kind.TRADES, f"C{number}")


TOPICS = st.one_of(
    st.builds(fills, st.integers(0, 7)),
    st.builds(trades, st.integers(0, 12)),
    st.builds(lambda n: Topic(Kind.ORDER_UPDATES, user=user(n)), st.integers(0, 7)),
    st.builds(
        lambda n, sig: Topic(Kind.L2_BOOK, f"C{n}", n_sig_figs=sig),
        st.integers(0, 2), st.none() | st.integers(2, 5),
    ),
)  # fmt: skip


@given(st.integers(1, 5), st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60))
def test_no_window_holds_more_than_its_limit(limit: int, steps) -> None:
    window, now_s, taken = Window(limit), 0.0, []
    for step_s, is_patient in steps:
        now_s += step_s
        wait_s = window.take(now_s=now_s)
        while wait_s and is_patient:
            now_s += wait_s
            wait_s = window.take(now_s=now_s)
        if not wait_s:
            taken.append(now_s)
    for first in taken:
        assert sum(first <= at_s < first + 60 for at_s in taken) <= limit


@given(st.lists(st.tuples(TOPICS, st.booleans(), st.sets(st.sampled_from("ABC")))))
def test_no_place_is_given_that_is_not_there(wishes) -> None:
    budget = PublicBudget(SMALL)
    held: dict[Topic, int] = {}
    for topic, is_wanted, tenants in wishes:
        if not is_wanted:
            budget.give(topic)
            held.pop(topic, None)
            continue
        grant = budget.take(topic, tenants=tenants)
        for evicted in grant.evicted:
            del held[evicted]
        assert (grant.link is None) == bool(grant.refusal)
        if grant.link is not None:
            assert held.setdefault(topic, grant.link) == grant.link
        else:
            assert not grant.evicted
            assert topic not in held
        slots = Counter((link, slot_of(each)) for each, link in held.items())
        assert not slots or max(slots.values()) == 1  # every frame can be told apart
        assert all(0 <= link < SMALL.connections for link in held.values())
        assert len(held) == budget.subscriptions <= SMALL.subscriptions
        assert len({t.user for t in held if t.user}) == budget.users <= SMALL.users
        variants = Counter(each.coin for each in held if each.kind is Kind.L2_BOOK)
        assert not variants or max(variants.values()) <= SMALL.book_variants_per_coin


@given(st.lists(st.sampled_from("ABC"), min_size=30, max_size=60), st.booleans())
def test_who_keeps_asking_ends_with_an_equal_share(turns, is_of_users: bool) -> None:
    budget = PublicBudget(SMALL)
    everybody = [*turns, *("ABC" * 8)]
    for number, tenant in enumerate(everybody):
        topic = fills(number) if is_of_users else trades(number)
        budget.take(topic, tenants=[tenant])
    count = budget.users_of if is_of_users else budget.held_by
    held = [count(tenant) for tenant in "ABC"]
    assert max(held) - min(held) <= 1
    assert sum(held) == (SMALL.users if is_of_users else SMALL.subscriptions)


UNNAMED = st.builds(lambda n: Topic(Kind.ORDER_UPDATES, user=user(n)), st.integers(0, 9))


@given(st.lists(st.tuples(st.sampled_from("ABC"), UNNAMED), min_size=40, max_size=60))
def test_feeds_that_need_a_connection_each_are_shared_too(wishes) -> None:
    budget = PublicBudget(Limits(connections=6, users=6))
    held: Counter[str] = Counter()
    whose: dict[Topic, str] = {}
    for number, (tenant, _) in enumerate([*wishes, *((t, None) for t in "ABC" * 8)]):
        topic = Topic(Kind.ORDER_UPDATES, user=user(number))
        grant = budget.take(topic, tenants=[tenant])
        for evicted in grant.evicted:
            held[whose.pop(evicted)] -= 1
        if grant.link is not None:
            held[tenant] += 1
            whose[topic] = tenant
    assert dict(held) == {"A": 2, "B": 2, "C": 2}


@given(st.lists(st.tuples(TOPICS, st.booleans(), st.sampled_from(["one", "two"]))))
def test_two_sources_share_one_allowance_and_no_connection(wishes) -> None:
    budget = PublicBudget(SMALL)
    held: dict[tuple[str, Topic], int] = {}
    for topic, is_wanted, holder in wishes:
        if not is_wanted:
            budget.give(topic, holder=holder)
            held.pop((holder, topic), None)
            continue
        grant = budget.take(topic, tenants=[holder], holder=holder)
        for evicted in grant.evicted:
            del held[holder, evicted]
        if grant.link is not None:
            held[holder, topic] = grant.link
        assert len({(name, link) for (name, _), link in held.items()}) <= SMALL.connections
        assert len({link: name for (name, _), link in held.items()}) == len(
            {(name, link) for (name, _), link in held.items()}
        )
        assert len(held) == budget.subscriptions <= SMALL.subscriptions
        assert len({t.user for _, t in held if t.user}) == budget.users <= SMALL.users
    budget.give_all()
    assert (budget.subscriptions, budget.users) == (0, 0)


def test_alone_everything_is_ours_and_a_newcomer_gets_half() -> None:
    budget = PublicBudget()
    for number in range(10):
        assert budget.take(fills(number), tenants=["Acme"]).link == 0
    refused = budget.take(fills(10), tenants=["Acme"])
    assert refused == (None, "All 10 users of the public feed are in use", ())
    evicted = [
        each
        for number in range(20, 30)
        for each in budget.take(fills(number), tenants=["Globex"]).evicted
    ]
    assert evicted == [fills(number) for number in (9, 8, 7, 6, 5)]
    assert budget.users_of("Acme") == budget.users_of("Globex") == 5


def test_a_topic_that_others_want_too_stays() -> None:
    budget = PublicBudget(Limits(subscriptions=3))
    for number in range(3):
        budget.take(trades(number), tenants=["Acme", "Initech"])
    assert budget.held_by("Acme") == 1.5
    refused = budget.take(trades(9), tenants=["Globex"])
    assert refused.refusal == "All 3 subscriptions of the public feed are in use"
    assert not refused.evicted


def test_one_topic_takes_one_place_whoever_wants_it() -> None:
    budget = PublicBudget(Limits(subscriptions=1))
    assert budget.take(trades(1)).link == 0
    assert budget.take(trades(1), tenants=["Acme"]).link == 0
    assert budget.subscriptions == 1
    budget.give(trades(1))
    budget.give(trades(1))
    assert budget.subscriptions == 0


def test_books_of_one_coin_leave_connections_for_others() -> None:
    budget = PublicBudget()
    books = [Topic(Kind.L2_BOOK, "BTC", n_sig_figs=sig) for sig in (None, 2, 3, 4, 5)]
    links = [budget.take(book).link for book in books]
    assert links == [0, 1, 2, 3, None]
    assert budget.take(books[4]).refusal == "All 4 public aggregations of BTC are in use"
    assert budget.take(Topic(Kind.L2_BOOK, "ETH")).link == 0


def test_frames_without_a_user_take_a_connection_each() -> None:
    budget = PublicBudget(Limits(connections=2))
    topics = [Topic(Kind.ORDER_UPDATES, user=user(number)) for number in range(3)]
    assert [budget.take(topic).link for topic in topics] == [0, 1, None]
    refused = budget.take(topics[2])
    assert refused.refusal == "All 2 public connections carry another orderUpdates"


@pytest.mark.parametrize("rate", ["connect", "say"])
def test_rates(rate: str) -> None:
    budget = PublicBudget(Limits(connects_per_minute=2, messages_per_minute=2))
    take = getattr(budget, rate)
    assert [take(now_s=now_s) for now_s in (0.0, 1.0, 2.0)] == [0.0, 0.0, 59.0]
    assert take(now_s=61.0) == 0.0
