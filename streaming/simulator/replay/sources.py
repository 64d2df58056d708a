"""Recorded files on disk: which there are, and their records in order."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, cast

import orjson

from streaming.simulator.files.resume import iso_to_ns

NODE_FILE = re.compile(
    r"(?P<stream>node_(?:fills|order_statuses|raw_book_diffs))_(?P<suffix>by_block|streaming)\.[\w.-]*?jsonl(?:\.gz)?\Z"
)
SNAPSHOT_FILE = re.compile(r"l4_snapshot[\w.-]*\.json(?:\.gz)?\Z")
LOCAL_TIME = re.compile(rb'\{"local_time":"([^"]+)"')
BLOCK_NUMBER = re.compile(rb'"block_number":(\d+)')
COIN = re.compile(rb'"coin":"([^"]+)"')


class UnusableRecording(ValueError):
    """A path holds nothing that can be replayed."""


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A recorded node file, with the directory name its lines go to."""

    path: Path
    stream: str
    suffix: str


@dataclass(slots=True)
class Recording:
    """What was found: WebSocket recordings, node files, and at most one snapshot."""

    ws_files: list[Path] = field(default_factory=list)
    node_files: list[NodeFile] = field(default_factory=list)
    snapshot: Path | None = None


def open_plain(path: Path) -> IO[bytes]:
    """A file opened for reading bytes, unpacked when its name ends in .gz."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def find(paths: Iterable[Path]) -> Recording:
    """Sort the given files, and the files of the given directories, into a recording.

    A snapshot that lies beside a node file belongs to it unless one was named. Raises
    UnusableRecording for a missing path, a named file that is neither kind, or when nothing is left
    to replay.
    """
    recording = Recording()
    for path in paths:
        if path.is_dir():
            for each in sorted(path.iterdir()):
                _sort_in(recording, each)
        elif not path.exists():
            raise UnusableRecording(f"{path} does not exist")
        elif not _sort_in(recording, path):
            raise UnusableRecording(
                f"{path} is neither a node file, a snapshot nor a recorded WebSocket stream"
            )
    if recording.node_files and recording.snapshot is None:
        beside = (
            each for file in recording.node_files for each in sorted(file.path.parent.iterdir())
        )
        recording.snapshot = next((each for each in beside if SNAPSHOT_FILE.match(each.name)), None)
    if not recording.ws_files and not recording.node_files:
        raise UnusableRecording("nothing to replay was found")
    return recording


def _sort_in(recording: Recording, path: Path) -> bool:
    node = NODE_FILE.match(path.name)
    if node is not None:
        recording.node_files.append(NodeFile(path, node["stream"], node["suffix"]))
    elif SNAPSHOT_FILE.match(path.name):
        recording.snapshot = path
    elif path.name.endswith((".jsonl", ".jsonl.gz")) and _is_ws_recording(path):
        recording.ws_files.append(path)
    else:
        return False
    return True


def _is_ws_recording(path: Path) -> bool:
    with open_plain(path) as file:
        try:
            first = orjson.loads(file.readline())
        except ValueError:
            return False
    return isinstance(first, dict) and "ts" in first and isinstance(first.get("payload"), dict)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One recorded frame: when it was received, where it belongs, and its bytes as compact JSON."""

    at_ns: int
    route: str
    channel: str
    payload: bytes
    data: object


def ws_frames(path: Path) -> Iterator[RecordedFrame]:
    """The frames of one file in file order; acknowledgements, pongs and lines that are no frame are
    left out.
    """
    with open_plain(path) as file:
        for line in file:
            try:
                record = orjson.loads(line)
                payload = record["payload"]
                channel, data = payload["channel"], payload["data"]
                at_ns = moment_ns(record["ts"])
            except (ValueError, KeyError, TypeError):
                continue
            route = data_route(channel, data)
            if route is not None:
                yield RecordedFrame(at_ns, route, channel, orjson.dumps(payload), data)


def moment_ns(ts: object) -> int:
    """A recorder's time as nanoseconds: ISO text with its zone, or a number of seconds or
    milliseconds.
    """
    if isinstance(ts, str):
        if not ts.endswith(("Z", "+00:00")) and re.search(r"[+-]\d\d:\d\d\Z", ts):
            return int(datetime.fromisoformat(ts).timestamp() * 1e6) * 1_000
        return iso_to_ns(ts)
    if isinstance(ts, int | float):
        return int(ts * (1_000_000 if ts > 1e11 else 1_000_000_000))
    raise TypeError("not a time")


def data_route(channel: str, data: object) -> str | None:
    """The route a data frame belongs to, by what clients route by; None for frames that nobody
    subscribes to.
    """
    if channel == "trades":
        return f"trades {data[0]['coin']}" if isinstance(data, list) and data else None
    if channel == "orderUpdates":
        return "orderUpdates"
    if not isinstance(data, dict) or channel in ("subscriptionResponse", "error", "post"):
        return None
    if channel == "candle":
        return f"candle {data['s']} {data['i']}"
    if channel == "allMids":
        return f"allMids {data.get('dex', '')}".rstrip()
    if channel == "user":
        return "userEvents"
    kind = "activeAssetCtx" if channel == "activeSpotAssetCtx" else channel
    subject = data.get("coin", data.get("user"))
    return kind if subject is None else f"{kind} {subject}"


@dataclass(frozen=True, slots=True)
class RecordedLine:
    """One line of a recorded node file, without its newline."""

    at_ns: int
    file: NodeFile
    line: bytes


def node_lines(source: NodeFile) -> Iterator[RecordedLine]:
    """The lines of one recorded node file in file order; those without a local time left out."""
    with open_plain(source.path) as file:
        for line in file:
            stamp = LOCAL_TIME.match(line)
            if stamp is not None:
                yield RecordedLine(iso_to_ns(stamp[1].decode()), source, line.rstrip(b"\r\n"))


def node_coins(sources: Iterable[NodeFile]) -> set[str]:
    """Every coin named in the given files."""
    coins: set[bytes] = set()
    for source in sources:
        with open_plain(source.path) as file:
            for line in file:
                coins.update(COIN.findall(line))
    return {coin.decode() for coin in coins}
