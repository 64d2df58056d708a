"""The words of a meter file.

In little-endian 64-bit words. The first page is the header; then come slots of 20 words:

    header   0 magic   1 version   2–3 worker UUID   4 sealing_seq   5 sealed_seq
             6 slot_count   7 open_hour   8 sealing_hour   9–12 region (32 bytes)
    slot     0 key_id   1–4 channel (32 bytes)   5–6 coin   7–8 reason (16 bytes each)
             9–11 totals   12–14 sealing   15–17 sealed   18 hour   19 unused
             (totals, sealing, sealed: messages, bytes, requests)

`totals` only grow. A seal copies them to `sealing`, and the batch is `sealing − sealed`; when it is
safe on disk, `sealed` becomes `sealing`. `sealing_seq` and `sealed_seq` say how far that went.
Hours of the header are seconds since 1970.

A slot whose `hour` (counted from 1970) is not 0 holds minutes: the first of its totals is a mask of
those in which the key followed the coin, and the batch is `sealing & ~sealed`. Once all of it is
sealed it is used for another hour.

Version 1 had slots of 16 words, without coin, reason and hour. Files of dead workers are read in
it.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

MAGIC = int.from_bytes(b"HLRMETER", "little")
FILE_VERSION = 2
HEADER_WORDS = mmap.PAGESIZE // 8
METRICS = 3

SEALING_SEQ, SEALED_SEQ, SLOT_COUNT, OPEN_HOUR, SEALING_HOUR, REGION = 4, 5, 6, 7, 8, 9
CHANNEL = 1


class Layout(NamedTuple):
    """Where the words of a slot are; 0: there are none."""

    slot_words: int
    coin: int
    reason: int
    totals: int
    sealing: int
    sealed: int
    hour: int


LAYOUTS = {1: Layout(16, 0, 0, 5, 8, 11, 0), 2: Layout(20, 5, 7, 9, 12, 15, 18)}
NEWEST = LAYOUTS[FILE_VERSION]
SLOT_WORDS, TOTALS = NEWEST.slot_words, NEWEST.totals
