"""replica_cmds: every block as the transactions that made it, one line a block.

The line does not say its height: that is the file's name plus the line's number, from 1. A node
begins a directory at each start, and a file each 10,000 blocks.

Source: hyperliquid-dex/node README; parse_token_delegate_from_replica_cmds.py of the python SDK.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from streaming.simulator.engine.block import Block, iso_ns

BLOCKS_PER_FILE = 10_000  # 12 minutes
BLOCKS_PER_HOUR = 51_429
PROPOSER = "0x" + hashlib.sha256(b"hl-simulator proposer").hexdigest()[:40]
#: Nobody signs here: the shape is right, the signature is nobody's.
SIGNATURE = {"r": "0x" + "1" * 64, "s": "0x" + "2" * 64, "v": 27}


class ReplicaWriter:
    """Writes blocks under `directory`/replica_cmds and keeps about `keep_hours` hours of files; 0
    keeps everything. Every line is one unbuffered write.
    """

    def __init__(self, directory: Path, *, now_ns: Callable[[], int], keep_hours: int = 0) -> None:
        started = datetime.fromtimestamp(now_ns() // 1_000_000_000, UTC)
        self._root = directory / "replica_cmds"
        self._session = self._root / f"{started:%Y-%m-%dT%H:%M:%SZ}"
        self._keep_hours = keep_hours
        self._fd = -1

    def write(self, block: Block) -> None:
        """Append one block."""
        before = block.height - 1
        if self._fd < 0 or before % BLOCKS_PER_FILE == 0:
            self._open(before, block.time_ns)
        os.write(self._fd, replica_line(block))

    def close(self) -> None:
        """Close the file of the newest blocks."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _open(self, name: int, time_ns: int) -> None:
        self.close()
        date = f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y%m%d}"
        path = self._session / date / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if self._keep_hours:
            self._prune(name - self._keep_hours * BLOCKS_PER_HOUR)

    def _prune(self, oldest: int) -> None:
        for session in self._root.iterdir():
            files = [path for path in session.glob("*/*") if path.name.isdigit()]
            for path in files:
                if int(path.name) + BLOCKS_PER_FILE <= oldest:
                    path.unlink(missing_ok=True)
            if session != self._session and not any(path.exists() for path in files):
                shutil.rmtree(session, ignore_errors=True)


def replica_line(block: Block) -> bytes:
    """One block with its line end; a bundle for each user who did something."""
    bundles: dict[str, list[object]] = {}
    for user, action in block.actions:
        bundles.setdefault(user, []).append(
            {"signature": SIGNATURE, "action": action, "nonce": block.time_ms}
        )
    line = {
        "abci_block": {
            "time": iso_ns(block.time_ns),
            # Rounds without a block let it run ahead of the height: it must not be taken for one.
            "round": block.height + block.height // 4,
            "parent_round": block.height - 1 + (block.height - 1) // 4,
            "hardfork": {"version": 1, "round": 0},
            "proposer": PROPOSER,
            "signed_action_bundles": [
                [
                    "0x" + hashlib.blake2b(f"{block.height}{user}".encode()).hexdigest()[:64],
                    {"signed_actions": actions},
                ]
                for user, actions in bundles.items()
            ],
        },
        "resps": None,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
