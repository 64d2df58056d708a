"""The fan-out in C, where it was built: what is plain of it. Everything else, and all of it where
nothing was built, the hub does itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streaming import native
from streaming.core.batch import Batch, NumberedBatch, Tally
from streaming.core.counted import Counted
from streaming.core.hub import Recipient
from streaming.core.outbox import Frame
from streaming.core.relay_session import RelaySession
from streaming.core.session import Session
from streaming.core.streams import Era, Item, Parts, Stream, StreamState, Subscription
from streaming.key_account import KeyAccount
from streaming.ws.writer import Writer

if TYPE_CHECKING:
    from streaming.core.envelope import Position

_CLASSES = (
    Counted, Era, Frame, KeyAccount, Parts, RelaySession, Session, Stream, Subscription, Writer,
)  # fmt: skip


class NativeFanout:
    """Implements `streaming.core.hub.Fanout`."""

    def __init__(self, built: Any) -> None:
        built.bind({cls.__name__: cls for cls in _CLASSES}, StreamState.LIVE)
        self._built = built

    def queue(
        self, followers: dict[Session, None], frame: Frame, dirty: list[Recipient]
    ) -> list[Session]:
        """Add a frame to what each of the official dialect gets; who is left to do."""
        rest: list[Session] = self._built.queue(followers, frame, dirty)
        return rest

    def deliver(
        self,
        streams: dict[Stream, None],
        parts: Parts,
        here: Position,
        dirty: list[Recipient],
        *,
        is_state: bool,
    ) -> tuple[int, list[Stream]]:
        """Offer an update to those to whom it is plain; how many, and who is left to do."""
        given, rest = self._built.deliver(streams, parts, here, dirty, is_state)
        return given, rest

    def hand_over(self, dirty: list[Recipient], begin: int) -> tuple[list[Recipient], int]:
        """Write to the sockets of ours that take it, from the `begin`th on and round; who is left
        to do, and how many failed."""
        rest, failures = self._built.hand_over(dirty, begin, _go_on)
        return rest, failures


def _go_on(
    session: Session | RelaySession,
    items: tuple[Item, ...],
    wire: bytes,
    tally: Tally,
    before: dict[Stream, tuple[Era | None, int]] | None,
    sent: int,
) -> None:
    """The kernel took `sent` bytes of it; -1: it refused."""
    batch: Batch | NumberedBatch
    if session.is_numbered:
        batch = NumberedBatch.numbered(items, wire, tally, before)
    else:
        batch = Batch(tuple(item for item in items if isinstance(item, Frame)))
    assert isinstance(session.sink, Writer)  # noqa: S101
    session.sink.took(batch, sent)


def native_fanout() -> NativeFanout | None:
    """The one in C, if there is one."""
    built = native.load()
    return None if built is None else NativeFanout(built)
