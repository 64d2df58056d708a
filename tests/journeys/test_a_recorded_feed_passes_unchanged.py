"""Recorded frames → simulator → relay → customer: each trade once, each frame as it was."""

from __future__ import annotations

import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from relay_site.processes import free_port
from tests.support.environment import VAR
from tests.support.relay import ROOT, RunningRelay
from tests.support.services import start_process

#: 55 minutes of recording in half a minute.
SPEED = 120
QUIET_S = 10.0

Key = tuple[str, str]


def key_of(frame: dict[str, Any]) -> Key:
    data = frame["data"]
    return frame["channel"], (data[0] if isinstance(data, list) else data)["coin"]


def read_recording(folder: Path) -> dict[Key, list[dict[str, Any]]]:
    frames: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.ws_*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                frame = json.loads(line)["payload"]
                frames[key_of(frame)].append(frame)
    return frames


def trades_of(frames: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    for frame in frames:
        for trade in frame["data"]:
            yield trade["time"], trade["tid"]


@pytest.mark.timeout(240)
def test_a_recorded_feed_passes_unchanged(
    test_data: Path, start_relay: Callable[..., RunningRelay]
) -> None:
    folder, port = test_data / "ws_hip4", free_port()
    recording = read_recording(folder)
    command = [sys.executable, str(ROOT / "manage.py"), "run_simulator", "--port", str(port)]
    command += ["--dir", str(VAR / "recorded-sim"), "--speed", str(SPEED)]
    command += ["--replay-start", "on-subscribe", "--replay"]
    command += [str(path) for path in sorted(folder.glob("*.ws_*.jsonl.gz"))]
    simulator = start_process(command, log=VAR / "recorded-sim.log")
    try:
        relay = start_relay("recorded", RELAY_UPSTREAMS=f"ws://127.0.0.1:{port}/ws")
        got = follow(relay, list(recording))
    finally:
        simulator.terminate()
        simulator.wait()
    for key, frames in recording.items():
        if key[0] == "trades":
            # The recorder resubscribed now and then; each replay of 30 repeats known trades.
            assert list(trades_of(got[key])) == list(dict.fromkeys(trades_of(frames))), key
            assert got[key][0] == frames[0]
        else:
            rest = iter(frames)
            assert all(any(frame == recorded for recorded in rest) for frame in got[key]), key
            assert got[key][-1] == frames[-1], key


def follow(relay: RunningRelay, keys: list[Key]) -> dict[Key, list[dict[str, Any]]]:
    """Everything a customer gets who follows all that was recorded, until it falls quiet."""
    got: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    with connect(relay.run["ws"], compression=None, max_size=None) as customer:
        for channel, coin in keys:
            fast = {"fast": True} if channel == "l2Book" else {}
            subscription = {"type": channel, "coin": coin, **fast}
            customer.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        try:
            while True:
                frame = json.loads(customer.recv(QUIET_S))
                if frame["channel"] in ("l2Book", "bbo", "trades"):
                    got[key_of(frame)].append(frame)
        except TimeoutError:
            return got
