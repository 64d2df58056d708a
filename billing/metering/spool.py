"""From the counters to the database: sealed batches wait on disk until the *database* has them.

Redis and Celery only ring the doorbell. Whatever dies, and whenever, a batch either lies in the
spool folder, or can be made again from the meter file under the same id, or is in the database; and
the database counts an id once.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from billing import metrics
from billing.metering.batch import Batch, BatchId, encode, parse_batch_id
from billing.metering.meter import Meter
from billing.metering.slots import SUFFIX, MeterFile, NotAMeterFile, hour_of, is_locked

log = structlog.get_logger(__name__)

RESEND_AFTER_S = 15.0
RESEND_AT_MOST_S = 120.0
#: After the broker refused a batch, none is tried for this long.
BROKER_PAUSE_S = 2.0
#: Batches on their way at once. Bounds what piles up in the broker while no Celery worker runs.
WINDOW = 64
#: How often the acknowledgements of batches on their way are looked up.
ACK_CHECK_S = 1.0
#: A seal asked of the counting thread is asked for again after this; its loop may have been
#: replaced.
SEAL_DEADLINE_S = 30.0
#: What a killed process left half written is removed after this.
LEFTOVER_S = 3_600.0
#: How often dead workers' files are looked for, besides at the start.
RECOVER_EVERY_S = 30.0

#: Hands a batch to whoever brings it to the database. May raise; may lose it.
Ship = Callable[[BatchId, bytes], None]
#: Which of these the database has for sure. May raise.
Acknowledged = Callable[[Collection[BatchId]], Collection[BatchId]]
#: Runs a callable on the thread that counts, soon (`loop.call_soon_threadsafe`).
CallSoon = Callable[[Callable[[], None]], object]


class Spool:
    """The folder of sealed batches, one JSON file each, shared by all processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, batch: Batch) -> None:
        """Store `batch` so that it survives a power cut. Raises OSError, and then it is not
        there."""
        path = self._path(batch.id)
        building = path.with_suffix(".new")
        try:
            with building.open("wb") as file:
                file.write(encode(batch))
                file.flush()
                os.fsync(file.fileno())
            building.rename(path)
        except OSError:
            with suppress(OSError):
                building.unlink()
            raise
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def holds(self, batch_id: BatchId) -> bool:
        """Whether the batch lies here."""
        return self._path(batch_id).exists()

    def ids(self) -> list[BatchId]:
        """All batches that lie here, a worker's own in order."""
        found = []
        for path in self.folder.glob("*.json"):
            with suppress(ValueError):
                found.append(parse_batch_id(path.stem))
        return sorted(found)

    def read(self, batch_id: BatchId) -> bytes | None:
        """The stored form of a batch; None when it is gone (another process had it
        acknowledged)."""
        try:
            return self._path(batch_id).read_bytes()
        except FileNotFoundError:
            return None

    def age_s(self, batch_id: BatchId) -> float:
        """Seconds since the batch was stored, by the wall clock."""
        try:
            return max(0.0, time.time() - self._path(batch_id).stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def drop(self, batch_id: BatchId) -> None:
        """Forget a batch that the database has."""
        self._path(batch_id).unlink(missing_ok=True)

    def _path(self, batch_id: BatchId) -> Path:
        return self.folder / f"{batch_id}.json"


def settle(file: Meter | MeterFile, spool: Spool) -> None:
    """Steps 1 and 2 of the batch that is being sealed, if there is one. Raises OSError when it
    cannot be stored.

    Safe to repeat after a death at any point: a batch that is in the spool already is not written
    again, because its file may be all that is left of it once `sealed` has begun to move.
    """
    meter_file = file.file if isinstance(file, Meter) else file
    seal = meter_file.sealing()
    if seal is None:
        return
    if not spool.holds(meter_file.batch_id(seal)):
        spool.keep(meter_file.sealing_batch())
        metrics.batches.labels("sealed").inc()
    meter_file.finish_seal()


def recover(meters: Path, spool: Spool, *, now: datetime) -> int:
    """Bring what dead workers counted into the spool and delete their files. Answers how many files
    were finished.

    Any number of processes may do this at once; the lock on each file lets one of them. Raises
    OSError when the spool cannot be written; the files then wait.
    """
    finished = 0
    _sweep(meters)
    _sweep(spool.folder)
    for path in sorted(meters.glob(f"*{SUFFIX}")):
        try:
            file = MeterFile.take_over(path)
        except NotAMeterFile as error:
            log.error(
                "meter_file_unreadable",
                file=path.name,
                error=str(error),
                kept_as=path.name + ".bad",
            )
            path.rename(path.with_name(path.name + ".bad"))
            continue
        if file is None:
            continue
        try:
            settle(file, spool)
            if file.begin_seal(now) is not None:
                settle(file, spool)
        except OSError:
            file.close()
            raise
        file.delete()
        finished += 1
        metrics.recovered.inc()
        log.info("meter_file_recovered", worker=file.worker)
    return finished


def _sweep(folder: Path) -> None:
    for path in folder.glob("*.new"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_S:
                path.unlink()


class _Flight:
    """When a batch was last sent, and how long to wait before sending it again."""

    __slots__ = ("next_s", "pause_s")

    def __init__(self, *, pause_s: float) -> None:
        self.pause_s = pause_s
        self.next_s = 0.0

    def sent(self, now_s: float) -> None:
        self.next_s = now_s + self.pause_s
        self.pause_s = min(RESEND_AT_MOST_S, self.pause_s * 2)


class Shipper:
    """Seals the meter every `interval_s`, and at each full UTC hour, and ships what the spool
    holds.

    Runs in a daemon thread of its own, so neither disk nor broker can hold up the loop that
    delivers; only the freezing of the counters happens there, through `call_soon`.
    """

    def __init__(
        self,
        meter: Meter,
        spool_dir: Path,
        *,
        ship: Ship,
        acknowledged: Acknowledged,
        call_soon: CallSoon,
        interval_s: float = 5.0,
        resend_after_s: float = RESEND_AFTER_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.meter = meter
        self.spool = Spool(spool_dir)
        self._meters = meter.file.path.parent
        self._ship = ship
        self._acknowledged = acknowledged
        self._call_soon = call_soon
        self._interval_s = interval_s
        self._resend_after_s = resend_after_s
        self._now = now
        self._flights: dict[BatchId, _Flight] = {}
        self._broker_pause_until_s = 0.0
        # What wakes the thread: a seal that the loop made (or None: nothing to seal), or _STOP.
        self._mail: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_settings(cls, *, call_soon: CallSoon) -> Shipper:
        """A shipper with a new meter in RELAY_VAR/usage, through Celery and REDIS_QUOTA_URL. Raises
        OSError."""
        from django.conf import settings

        from billing.metering.doorbell import acknowledged, ring

        folder = Path(settings.RELAY_VAR) / "usage"
        meter = Meter.create(folder / "meters", now=datetime.now(UTC), region=settings.RELAY_REGION)
        return cls(
            meter, folder / "spool", ship=ring, acknowledged=acknowledged, call_soon=call_soon
        )

    def start(self) -> None:
        """Start the thread. Dead workers' files are taken over first thing."""
        self._thread = threading.Thread(target=self._run, name="usage-shipper", daemon=True)
        self._thread.start()

    def stop(self, *, final: bool = True) -> None:
        """End the thread; with `final`, seal and send what is left. Call it on the counting thread,
        after the last count.

        What cannot be sent in time stays in the spool for the next process. Waits for at most about
        ten seconds.
        """
        if self._thread is not None:
            self._mail.put(_STOP)
            self._thread.join(timeout=10.0)
            if self._thread.is_alive():
                log.warning("usage_shipper_busy")
                return
            self._thread = None
        if final:
            self._attempt("seal", self._seal_the_rest)
            self._attempt("send", self._send)

    def _run(self) -> None:
        next_seal_s = time.monotonic() + self._until_seal_s()
        next_recovery_s = 0.0
        asked_until_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= next_recovery_s:
                self._attempt("recover", lambda: recover(self._meters, self.spool, now=self._now()))
                next_recovery_s = now_s + RECOVER_EVERY_S
            if now_s >= max(next_seal_s, asked_until_s):
                if self._attempt("seal", self._ask_for_seal):
                    asked_until_s = now_s + SEAL_DEADLINE_S
                next_seal_s = now_s + self._until_seal_s()
            self._attempt("acknowledge", self._drop_acknowledged)
            self._attempt("send", self._send)
            wait_s = min(max(next_seal_s, asked_until_s), next_recovery_s) - time.monotonic()
            if self._flights:
                wait_s = min(wait_s, ACK_CHECK_S)
            try:
                mail = self._mail.get(timeout=max(0.01, wait_s))
            except queue.Empty:
                continue
            if mail is _STOP:
                return
            asked_until_s = 0.0
            self._attempt("store", lambda: settle(self.meter, self.spool))

    def _until_seal_s(self) -> float:
        """Seconds until the next seal: the interval, or less when the hour ends before."""
        now = self._now()
        left_s = hour_of(now) + 3600 - now.timestamp()
        # A hair after the hour, so that the seal sees the new one and books the old.
        return min(self._interval_s, left_s + 0.001)

    def _ask_for_seal(self) -> None:
        self._call_soon(lambda: self._mail.put(self.meter.begin_seal(self._now())))

    def _seal_the_rest(self) -> None:
        settle(self.meter, self.spool)
        if self.meter.begin_seal(self._now()) is not None:
            settle(self.meter, self.spool)
        self.meter.file.delete()

    def _drop_acknowledged(self) -> None:
        if not self._flights:
            return
        for batch_id in self._acknowledged(list(self._flights)):
            self.spool.drop(batch_id)
            self._flights.pop(batch_id, None)
            metrics.batches.labels("acknowledged").inc()

    def _send(self) -> None:
        waiting = self._ours()
        known = set(waiting)
        metrics.unshipped.set(len(waiting))
        metrics.oldest_unshipped_s.set(max(map(self.spool.age_s, waiting[:1]), default=0.0))
        # Those another process had acknowledged are gone from the folder.
        self._flights = {
            batch_id: flight for batch_id, flight in self._flights.items() if batch_id in known
        }
        for batch_id in waiting:
            if batch_id not in self._flights and len(self._flights) >= WINDOW:
                break
            flight = self._flights.setdefault(batch_id, _Flight(pause_s=self._resend_after_s))
            self._send_one(batch_id, flight)

    def _send_one(self, batch_id: BatchId, flight: _Flight) -> None:
        now_s = time.monotonic()
        if now_s < max(flight.next_s, self._broker_pause_until_s):
            return
        payload = self.spool.read(batch_id)
        if payload is None:
            return
        try:
            self._ship(batch_id, payload)
        except Exception:
            # Nothing was sent, so the batch keeps its turn; but one refusal is enough for a while.
            self._broker_pause_until_s = time.monotonic() + BROKER_PAUSE_S
            raise
        metrics.batches.labels("resent" if flight.next_s else "sent").inc()
        flight.sent(now_s)

    def _ours(self) -> list[BatchId]:
        """Our own batches, and those whose worker is dead. Two processes may adopt the same one: it
        counts once."""
        alive = {self.meter.worker: True}
        ours = []
        for batch_id in self.spool.ids():
            worker = batch_id.worker
            if worker not in alive:
                alive[worker] = is_locked(self._meters / f"{worker}{SUFFIX}")
            if worker == self.meter.worker or not alive[worker]:
                ours.append(batch_id)
        return ours

    def _attempt(self, step: str, act: Callable[[], object]) -> bool:
        """Do a step; a failure is counted, logged and left for the next round, because this thread
        must survive."""
        try:
            act()
        except Exception as error:
            metrics.spool_failures.labels(step).inc()
            log.warning(
                "usage_spool_step_failed", step=step, error=f"{type(error).__name__}: {error}"[:200]
            )
            return False
        return True


_STOP = object()
