"""Fixtures of the pure rooms."""

import os
from pathlib import Path

import orjson
import pytest


@pytest.fixture(scope="session")
def recorded_frames() -> list[str]:
    """Single WebSocket frames of the exchange, verbatim."""
    folder = os.environ.get("RELAY_TEST_DATA")
    path = Path(folder or "") / "frames" / "observed_ws_frames.jsonl"
    if not folder or not path.exists():
        pytest.skip("RELAY_TEST_DATA is not set: recorded frames are not here")
    return [orjson.loads(line)["raw"] for line in path.read_bytes().splitlines()]
