"""The frame every fan-out subject carries: a 20-level `l2Book` with the publisher's stamp in it."""

from __future__ import annotations

#: Where the load client finds the stamp: CLOCK_MONOTONIC in ns, always this many digits.
MARK = b'"_b":"'
STAMP_DIGITS = 19

LEVELS = 20


def _levels(*, best: int, step: int) -> str:
    sizes = (f"{(i * 37 + 11) % 97}.{(i * 7919 + 31337) % 100_000:05d}" for i in range(LEVELS))
    return ",".join(
        f'{{"px":"{best + step * i}.0","sz":"{size}","n":{i % 9 + 1}}}'
        for i, size in enumerate(sizes)
    )


_HEAD = b'{"channel":"l2Book",' + MARK
_TAIL = (
    '","data":{"coin":"BTC","time":1778002753024,"levels":['
    f"[{_levels(best=81_308, step=-1)}],[{_levels(best=81_309, step=1)}]]}}}}"
).encode()

#: Length of every frame, about 1.6 KB.
FRAME_BYTES = len(_HEAD) + STAMP_DIGITS + len(_TAIL)


def frame(stamp_ns: int) -> bytes:
    """The frame stamped `stamp_ns`."""
    return b"%b%0*d%b" % (_HEAD, STAMP_DIGITS, stamp_ns, _TAIL)
