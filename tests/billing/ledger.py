"""A ledger in files, for tests without a database: it counts each batch id once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from billing.metering.batch import Batch, BatchId, decode
from billing.metering.spool import Spool


class Ledger:
    """What a folder of batches adds up to. Files, so that killed processes can share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def ingest(self, batch_id: BatchId, payload: bytes) -> bool:
        """Count a batch unless its id was counted before; whole or not at all."""
        path = self.folder / str(batch_id)
        if path.exists():
            return False
        building = path.with_name(f"{path.name}.new")
        building.write_bytes(payload)
        building.rename(path)
        return True

    def drain(self, spool: Spool) -> None:
        """Ingest all that waits in a spool, and drop it there."""
        for batch_id in spool.ids():
            payload = spool.read(batch_id)
            assert payload is not None
            self.ingest(batch_id, payload)
            spool.drop(batch_id)

    def batches(self) -> list[Batch]:
        """All that was counted."""
        paths = sorted(path for path in self.folder.iterdir() if path.suffix != ".new")
        return [decode(path.read_bytes()) for path in paths]

    def minutes(self) -> set[tuple[int, str, int]]:
        """Key, coin and minute since 1970 of all coin-minutes."""
        return {
            (line.key_id, line.coin, line.hour * 60 + minute)
            for batch in self.batches()
            for line in batch.minutes
            for minute in range(60)
            if line.minutes >> minute & 1
        }

    def sums(self) -> Counter[tuple[int, str, str]]:
        """Units by key, channel and metric."""
        sums: Counter[tuple[int, str, str]] = Counter()
        for batch in self.batches():
            for line in batch.lines:
                sums[line.key_id, line.channel, "messages"] += line.messages
                sums[line.key_id, line.channel, "bytes"] += line.payload_bytes
                sums[line.key_id, line.channel, "requests"] += line.requests
        return +sums
