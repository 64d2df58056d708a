"""The frames every fan-out subject carries, with the publisher's stamp in them: `l2Book` of 20
levels a side, and of one."""

from __future__ import annotations

#: Where the load client finds the stamp: CLOCK_MONOTONIC in ns, always this many digits.
MARK = b'"_b":"'
STAMP_DIGITS = 19

LEVELS = 20
#: Sizes of frame that a publisher is asked for by.
SMALL, LARGE = 200, 1600


def _levels(*, best: int, step: int, count: int = LEVELS) -> str:
    sizes = (f"{(i * 37 + 11) % 97}.{(i * 7919 + 31337) % 100_000:05d}" for i in range(count))
    return ",".join(
        f'{{"px":"{best + step * i}.0","sz":"{size}","n":{i % 9 + 1}}}'
        for i, size in enumerate(sizes)
    )


_HEAD = b'{"channel":"l2Book",' + MARK


def _tail(count: int) -> bytes:
    bids, asks = (
        _levels(best=81_308, step=-1, count=count),
        _levels(best=81_309, step=1, count=count),
    )
    return (
        f'","data":{{"coin":"BTC","time":1778002753024,"levels":[[{bids}],[{asks}]]}}}}'
    ).encode()


_TAILS = {LARGE: _tail(LEVELS), SMALL: _tail(1)}


def frame(stamp_ns: int, *, size: int = LARGE) -> bytes:
    """The frame of about `size` bytes, stamped `stamp_ns`."""
    return b"%b%0*d%b" % (_HEAD, STAMP_DIGITS, stamp_ns, _TAILS[size])
