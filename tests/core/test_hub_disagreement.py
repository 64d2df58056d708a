"""Two workers that read nodes with another number of events in a block: each trade once all the
same."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.envelope import ORIGIN, Envelope, Position, Role
from tests.core.relay_world import BTC, EPOCH, World, begun, data, events, trades


@dataclass
class Teller:
    """A worker whose node has so many more events before the coin's in some blocks."""

    name: str
    shifts: dict[int, int]
    place: Position

    def tell(self, height: int) -> Envelope:
        before, self.place = self.place, Position(height, 1 + self.shifts.get(height, 0))
        return Envelope(BTC.name, EPOCH, self.place, before, Role.UPDATE, trades(height))


blocks = st.lists(
    st.tuples(
        st.sampled_from(["AB", "BA", "A", "B"]), st.sampled_from([0, 0, 2]), st.sampled_from([0, 2])
    ),
    min_size=1,
    max_size=12,
)


@given(blocks)
@settings(deadline=None, max_examples=60)
def test_each_block_is_told_once_live_and_from_the_log(
    steps: list[tuple[str, int, int]],
) -> None:
    world = World()
    world.log.page = 100
    desk = world.desk()
    desk.subscribe(coin="BTC")
    world.publish(begun(5))
    desk.take()
    tellers = {
        name: Teller(
            name, place=Position(5), shifts={6 + n: step[at] for n, step in enumerate(steps)}
        )
        for at, name in ((1, "A"), (2, "B"))
    }
    for height, (order, _, _) in enumerate(steps, start=6):
        told = {name: teller.tell(height) for name, teller in tellers.items()}
        for name in order:
            world.publish(told[name], worker=name)
        world.wait(0.06)
    world.wait()
    frames = desk.take()
    everything = list(range(6, 6 + len(steps)))
    assert data(frames) == everything
    if all(len(order) == 2 for order, _, _ in steps):
        # Else the other's version is missed, and may have held more.
        assert events(frames) == []
        assert world.ledger.gaps == []
    again = world.desk()
    again.subscribe(coin="BTC", from_={"height": 6})
    world.wait()
    assert data(again.take()) == everything


def test_a_claim_that_only_reaches_less_far_back_contradicts_nothing() -> None:
    def claims(previous: Position, position: Position) -> Envelope:
        return Envelope(BTC.name, EPOCH, position, previous, Role.UPDATE, b"")

    assert claims(Position(5, 1), Position(6, 3)).contradicts(Position(6, 1))
    assert not claims(Position(6, 1), Position(6, 3)).contradicts(Position(6, 1))
    assert not claims(Position(6, 2), Position(6, 3)).contradicts(Position(6, 1))
    assert not claims(ORIGIN, Position(7, 3)).contradicts(Position(6, 1))
