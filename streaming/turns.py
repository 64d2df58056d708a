"""What one turn of an edge's loop may hold, so that a crowd at the door delays nobody inside.

asyncio hands out every ready socket in one turn. When 2,000 customers connect, or are cut, at once,
that is 2,000 handshakes or farewells in a row before the bus is looked at again: the others' frames
were 97 ms late. Here a turn takes a few sockets, and the bus first. The kernel's list of ready
sockets goes round, so nobody is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors

#: A handshake is some 0.6 ms of work, spread over three turns; eight of the dearest steps are less
#: than 3 ms.
SOCKETS_PER_TURN = 8

Events = list[tuple[selectors.SelectorKey, int]]


class TurnSelector(selectors.EpollSelector):
    """Hands out at most `SOCKETS_PER_TURN` sockets at a time; those put first, whenever ready."""

    # Of CPython's own, which its stubs do not name.
    _selector: select.epoll
    _fd_to_key: dict[int, selectors.SelectorKey]

    def __init__(self) -> None:
        super().__init__()
        self._first = select.epoll()
        self._has_more = False

    def put_first(self, fd: int) -> None:
        """Look at `fd`, which is registered, in every turn; ends when it is closed."""
        with contextlib.suppress(FileExistsError):
            self._first.register(fd, select.EPOLLIN)

    def select(self, timeout: float | None = None) -> Events:
        """What is ready; waits up to `timeout` seconds (None: for ever) for anything."""
        first: Events = []
        if self._has_more:  # else nothing was left behind, and all are looked at anyway
            first = self._known(self._first.poll(0))
        wait_s = 0.0 if first else _rounded(timeout)
        ready = self._selector.poll(wait_s, SOCKETS_PER_TURN)
        self._has_more = len(ready) == SOCKETS_PER_TURN
        if not first:
            return self._known(ready)
        seen = {key.fd for key, _ in first}
        return first + self._known([(fd, mask) for fd, mask in ready if fd not in seen])

    def close(self) -> None:
        """Give both descriptors back."""
        self._first.close()
        super().close()

    def _known(self, ready: list[tuple[int, int]]) -> Events:
        events: Events = []
        for fd, mask in ready:
            key = self._fd_to_key.get(fd)
            if key is None:
                continue
            wanted = selectors.EVENT_WRITE if mask & ~select.EPOLLIN else 0
            wanted |= selectors.EVENT_READ if mask & ~select.EPOLLOUT else 0
            events.append((key, wanted & key.events))
        return events


def _rounded(timeout: float | None) -> float:
    """As epoll takes it: whole milliseconds, never less than asked for; -1 without an end."""
    if timeout is None:
        return -1.0
    return math.ceil(timeout * 1e3) * 1e-3 if timeout > 0 else 0.0


def go_by_turns(loop: asyncio.AbstractEventLoop) -> None:
    """From now on `loop` goes by turns; where there is no epoll, nothing changes.

    Daphne makes its loop when Django starts, before anybody could give it another selector.
    """
    old = getattr(loop, "_selector", None)
    if not isinstance(old, selectors.EpollSelector):
        return
    new = TurnSelector()
    for key in list(old.get_map().values()):
        new.register(key.fileobj, key.events, key.data)
    loop._selector = new  # type: ignore[attr-defined]
    old.close()


def put_first(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Look at `fd` in every turn of a loop that goes by them; in another loop, nothing."""
    selector = getattr(loop, "_selector", None)
    if isinstance(selector, TurnSelector):
        selector.put_first(fd)
