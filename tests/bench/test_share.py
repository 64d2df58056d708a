"""A sample belongs to the innermost frame of ours, and only the loop's count."""

from __future__ import annotations

import pytest

from streaming import native
from tests.bench.cases.share import shares
from tests.bench.machine import ROOT

LOOP = "<module> (manage.py:17);BaseEventLoop._run_once (asyncio/base_events.py:1922)"
LIBRARY = native.SOURCE.relative_to(ROOT)
WRITE = f"{LOOP};Hub.flush (streaming/core/hub.py:822);Writer._write (streaming/ws/writer.py:155)"


def test_parts_of_a_profile() -> None:
    parts = shares(
        (
            f"{WRITE};KeyAccount.delivered (streaming/key_account.py:22) 1",
            f"{WRITE};KeyAccount.delivered (streaming/key_account.py:22);Meter.add"
            " (billing/metering/meter.py:80) 2",
            f"{WRITE};NumberedBatch._next (streaming/core/batch.py:120) 4",
            f"{WRITE};Protocol.send (streaming/ws/server.py:124) 8",
            f"{LOOP};hand_over ({LIBRARY});count ({LIBRARY}) 1",
            f"{LOOP};hand_over ({LIBRARY});take_number ({LIBRARY});_PyLong_New (libpython3.so) 2",
            f"{LOOP};hand_over ({LIBRARY});send (libc.so.6) 2",
            f"{LOOP};Limiter.check (tenants/admission/limiter.py:10);getpid (os.py:1) 5",
            # An idle thread, whatever it sits in.
            "Thread._bootstrap (threading.py:1);Shipper._run (billing/metering/spool.py:282) 900",
        )
    )
    assert parts == pytest.approx({"metering": 16, "admission": 20, "seq": 24, "together": 60})
