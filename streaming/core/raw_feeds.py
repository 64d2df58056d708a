"""Node files as topics of their own: every block's events, the bytes as the node wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
import orjson

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times, end_of
from streaming.core.node_lines import parse_time_ns
from streaming.core.topic import Kind, Topic

_EVENTS = b'"events":'
_BLOCK_TIME = b'"block_time":"'
_LOCAL_TIME = b'"local_time":"'
LOST = "no node has these blocks"
NO_DATA = "no node has sent this file yet"

_Events = msgspec.json.Decoder(list[msgspec.Raw])


class RawFeeds:
    """One frame a block: `{"stream","height","index","events":[…]}`, empty blocks left out.

    With a coin, only the events of it; those of files whose events name no coin have none. A frame
    is a whole block, so its `index` is 0: the events stand in it in order. `faults` counts what
    could not be used.
    """

    KINDS: ClassVar[frozenset[Kind]] = frozenset({Kind.RAW})
    FILES: ClassVar[frozenset[FileKind]] = frozenset(FileKind)

    def __init__(self, faults: Counter[str]) -> None:
        self.epoch = ""
        self._faults = faults
        self._places: dict[FileKind, dict[Topic, Position]] = {kind: {} for kind in FileKind}
        self._heights: dict[FileKind, int] = {}

    def can_serve(self, topic: Topic) -> bool:
        """Whether a node writes the topic's file."""
        return FileKind(topic.stream) in self._heights

    def want(self, topic: Topic) -> None:
        """Publish the topic's frames from the next block on; idempotent."""
        kind = FileKind(topic.stream)
        height = self._heights.get(kind)
        self._places[kind].setdefault(topic, end_of(height) if height else ORIGIN)

    def unwant(self, topic: Topic) -> None:
        """Stop."""
        self._places[FileKind(topic.stream)].pop(topic, None)

    def prime(self, blocks: Iterable[RawBlock]) -> None:
        """Nothing opens these topics."""

    def apply(self, block: RawBlock) -> list[Envelope]:
        """The frames of one block."""
        if block.kind not in self._heights:
            self.lost(block.kind, block.height - 1)  # nothing is claimed of what came before
        self._heights[block.kind] = block.height
        places = self._places[block.kind]
        if not places:
            return []
        try:
            events, times = _read(block)
        except ValueError:
            self._faults["bad_line"] += 1
            return []
        if not events:
            return []
        here, out = Position(block.height), []
        for topic, before in places.items():
            own = self._of_coin(events, block.kind, topic.coin) if topic.coin else events
            if own:
                places[topic] = here
                payload = _render(topic, block.height, own)
                out.append(
                    Envelope(topic.name, self.epoch, here, before, Role.UPDATE, payload, times)
                )
        return out

    def lost(self, kind: FileKind, height: int) -> list[Envelope]:
        """Blocks of `kind` up to `height` are missing: the gaps of its topics."""
        place, places = end_of(height), self._places[kind]
        gaps = [
            Envelope(topic.name, self.epoch, place, before, Role.GAP, LOST.encode())
            for topic, before in places.items()
        ]
        places.update(dict.fromkeys(places, place))
        if kind in self._heights:
            self._heights[kind] = max(self._heights[kind], height)
        return gaps

    def snapshot(self, topic: Topic) -> Envelope:
        """Where the topic stands: at its last frame, since which everything was told. There is
        nothing to open it with."""
        kind = FileKind(topic.stream)
        height = self._heights.get(kind)
        if not height:
            payload = NO_DATA.encode()
            return Envelope(topic.name, self.epoch, ORIGIN, ORIGIN, Role.NOT_READY, payload)
        place = self._places[kind].get(topic, end_of(height))
        return Envelope(topic.name, self.epoch, place, place, Role.SNAPSHOT, b"")

    def _of_coin(self, events: bytes, kind: FileKind, coin: str) -> bytes:
        if b'"coin":%b' % orjson.dumps(coin) not in events:
            return b""
        own: list[bytes] = []
        try:
            texts = [bytes(raw) for raw in _Events.decode(b"[%b]" % events)]
        except msgspec.DecodeError:
            self._faults["bad_line"] += 1
            return b""
        for text in texts:
            try:
                if coin_of(kind, orjson.loads(text)) == coin:
                    own.append(text)
            except (IndexError, KeyError, TypeError):
                self._faults["bad_event"] += 1
        return b",".join(own)


def coin_of(kind: FileKind, event: Any) -> str | None:
    """The coin that an event of a file is about. Raises KeyError, IndexError or TypeError for what
    is no such event.
    """
    match kind:
        case FileKind.FILLS:
            coin = event[1]["coin"]
        case FileKind.STATUSES:
            coin = event["order"]["coin"]
        case FileKind.DIFFS:
            coin = event["coin"]
        case _:
            return None
    return coin if isinstance(coin, str) else None


def _read(block: RawBlock) -> tuple[bytes, Times]:
    """What stands between the brackets of the block's events, and its times. Raises ValueError."""
    if block.kind is FileKind.BLOCKS:
        return b",".join(block.lines), Times(in_ns=block.read_ns)
    parts: list[bytes] = []
    for line in block.lines:
        begin = line.index(_EVENTS) + len(_EVENTS)
        begin = line.index(b"[", begin) + 1
        if part := line[begin:-2]:
            parts.append(part)
    head = block.lines[0]
    times = Times(_time_ns(head, _BLOCK_TIME), _time_ns(head, _LOCAL_TIME), block.read_ns)
    return b",".join(parts), times


def _time_ns(line: bytes, name: bytes) -> int:
    begin = line.index(name) + len(name)
    return parse_time_ns(line[begin : line.index(b'"', begin)].decode())


def _render(topic: Topic, height: int, events: bytes) -> bytes:
    return b'{"channel":"raw","data":{"stream":"%b","height":%d,"index":0,"events":[%b]}}' % (
        topic.stream.encode(),
        height,
        events,
    )
