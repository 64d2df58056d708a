"""Package `hyperliquid`: node files and books, by another provider's names and numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import orjson

from gateway.grpc import handlers, l4_snapshot, node_text, typed
from gateway.grpc.book_changes import BestPrices, Levels, Orders
from gateway.grpc.call import Call, Reading
from gateway.grpc.door import Door
from gateway.grpc.envelopes import Made
from gateway.grpc.filters import Filter, Filters, TooMany
from gateway.grpc.generated.hyperliquid import streaming_pb2 as pb
from gateway.grpc.plain import Making, Plain, made_once
from gateway.grpc.reads import Reads
from gateway.grpc.requests import read
from gateway.grpc.statuses import CallEnds, bad_argument
from gateway.grpc.wire import bytes_field, message_field, number_field
from streaming.core.blocks import FileKind
from streaming.core.dialects.relay import MARKET_TYPES, MAX_NAMES
from streaming.core.streams import RelayFrame
from streaming.core.topic import MAX_LEVELS
from tenants.admission.principal import Principal

DIALECT = "hyperliquid"
STREAMING, BLOCKS, BOOKS = (
    pb.DESCRIPTOR.services_by_name[name].full_name
    for name in ("Streaming", "BlockStreaming", "OrderBookStreaming")
)
FILES: dict[int, FileKind] = {
    pb.TRADES: FileKind.FILLS,
    pb.ORDERS: FileKind.STATUSES,
    pb.BOOK_UPDATES: FileKind.DIFFS,
    pb.TWAP: FileKind.TWAP,
    pb.EVENTS: FileKind.MISC,
    pb.BLOCKS: FileKind.BLOCKS,
    pb.WRITER_ACTIONS: FileKind.WRITER,
}
#: A type of theirs that we have nothing for.
MEMPOOL = 8
NO_MEMPOOL = "Type 8, transactions that wait, is not served: nodes write no file of them."
DEFAULT_LEVELS = 20
_DATA = pb.SubscribeUpdate.DATA_FIELD_NUMBER
_PONG = b'{"channel":"pong","timestamp":%d}'


def response(frame: RelayFrame, filters: Filters) -> Iterable[bytes]:
    """A frame of a raw topic as `SubscribeUpdate`; none where no event of it is wanted."""
    parts = frame.parts
    forms = parts.forms
    if forms is None:
        forms = parts.forms = {}
    if filters.is_open:
        update = forms.get("update")
        if update is None:
            update = forms["update"] = _update(frame, None)
        return (update,)
    own = filters.own(node_text.events(parts.payload))
    return (_update(frame, own),) if own else ()


def _update(frame: RelayFrame, own: bytes | None) -> bytes:
    parts = frame.parts
    body = b"".join(
        (
            number_field(pb.StreamResponse.BLOCK_NUMBER_FIELD_NUMBER, parts.position.height),
            number_field(pb.StreamResponse.TIMESTAMP_FIELD_NUMBER, parts.times.in_ns // 1_000_000),
            bytes_field(
                pb.StreamResponse.DATA_FIELD_NUMBER,
                node_text.line(parts.payload, parts.times, own),
            ),
        )
    )
    return message_field(_DATA, body)


class StreamData:
    """One call of `Streaming.StreamData`: a stream for each type, each with named filters."""

    def __init__(self) -> None:
        self._filters: dict[str, Filters] = {}

    def make(self, frame: RelayFrame) -> Iterable[bytes]:
        """An update of one of the streams."""
        filters = self._filters.get(frame.stream.topic.stream)
        return response(frame, filters) if filters is not None else ()

    async def read(self, call: Call, context: Any) -> None:
        """Act on what the client sends. Raises CallEnds."""
        while (data := await context.read()) is not grpc.aio.EOF:
            if call.is_flooding():
                continue
            request = read(pb.SubscribeRequest, data)
            match request.WhichOneof("request"):
                case "subscribe":
                    self._subscribe(call, request.subscribe)
                case "ping":
                    call.mute_since_s = None
                    call.say(_PONG % request.ping.timestamp)
                case _:
                    raise bad_argument("request", "it is neither subscribe nor ping")

    def _subscribe(self, call: Call, asked: pb.StreamSubscribe) -> None:
        kind = FILES.get(asked.stream_type)
        if asked.stream_type == MEMPOOL:
            raise CallEnds(grpc.StatusCode.UNIMPLEMENTED, NO_MEMPOOL, code="not_served")
        if kind is None:
            raise bad_argument("subscribe.stream_type", f"{asked.stream_type} is not 1 to 7")
        wanted = Filter({name: each.values for name, each in asked.filters.items()})
        known = self._filters.get(kind.value)
        filters = known or Filters()
        try:
            filters.add(asked.filter_name, wanted)
        except TooMany as too_many:
            raise bad_argument("subscribe.filters", f"{too_many}.") from None
        if known is not None:
            return
        self._filters[kind.value] = filters
        start = asked.start_block
        if start >= 2**53:
            raise bad_argument("subscribe.start_block", f"{start} is not below 2^53")
        frame: dict[str, Any] = {
            "method": "subscribe",
            "id": asked.stream_type,
            "subscription": {"type": "raw", "stream": kind.value},
        }
        call.ask(frame | ({"from": {"height": start}} if start else {}))


class StreamDataWriting(Plain):
    """Pongs are told here."""

    def say(self, event: dict[str, Any]) -> bytes | None:
        """A pong as a message."""
        if event["type"] != "pong":
            return None
        pong = pb.Pong(timestamp=event["timestamp"])
        return pb.SubscribeUpdate(pong=pong).SerializeToString()


class QuickNodeService:
    """All three services."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reads = Reads(door)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What a server is given."""
        streaming = {
            "StreamData": handlers.bidi(self._stream_data),
            "Ping": handlers.unary(self._ping),
        }
        books = {
            "StreamL2Book": handlers.stream(self._stream_l2_book),
            "StreamL4Book": handlers.stream(self._stream_l4_book),
            "StreamBboBook": handlers.stream(self._stream_bbo_book),
            "StreamL2BookDiff": handlers.stream(self._stream_l2_book_diff),
            "StreamL4BookUpdates": handlers.stream(self._stream_l4_book_updates),
        }
        return (
            grpc.method_handlers_generic_handler(STREAMING, streaming),
            grpc.method_handlers_generic_handler(
                BLOCKS, {"StreamBlocks": handlers.stream(self._stream_blocks)}
            ),
            grpc.method_handlers_generic_handler(BOOKS, books),
        )

    async def _stream_data(self, _: Any, context: Any) -> None:
        data = StreamData()
        call = Call(self._door, StreamDataWriting(data.make), dialect=DIALECT, has_words=False)
        call.begin_mute()
        await call.serve(context, data.read)

    async def _ping(self, data: bytes, context: Any) -> bytes:
        async def answering(_: Principal, data: bytes) -> bytes:
            asked = read(pb.PingRequest, data)
            return pb.PingResponse(count=asked.count).SerializeToString()

        return await self._reads.answer(answering, data, context, "Ping")

    async def _stream_blocks(self, data: bytes, context: Any) -> None:
        async def ask(call: Call, _: Any) -> None:
            since_ms = read(pb.Timestamp, data).timestamp
            if not 0 <= since_ms < 2**53:
                raise bad_argument("timestamp", f"{since_ms} is not between 0 and 2^53")
            raw = {"type": "raw", "stream": FileKind.BLOCKS.value}
            frame: dict[str, Any] = {"method": "subscribe", "id": 1, "subscription": raw}
            call.ask(frame | ({"from": {"ms": since_ms}} if since_ms else {}))

        await self._serve(context, _block, ask)

    async def _stream_l2_book(self, data: bytes, context: Any) -> None:
        async def ask(call: Call, _: Any) -> None:
            asked = read(pb.L2BookRequest, data)
            _subscribe(call, {"type": "l2Book", "coin": asked.coin, **_levels(asked)})

        await self._serve(context, _l2_book, ask, is_gap_told=True)

    async def _stream_l4_book(self, data: bytes, context: Any) -> None:
        async def ask(call: Call, _: Any) -> None:
            _subscribe(call, {"type": "l4Book", "coin": read(pb.L4BookRequest, data).coin})

        await self._serve(context, _l4_book, ask, is_gap_told=True)

    async def _stream_bbo_book(self, data: bytes, context: Any) -> None:
        async def ask(call: Call, _: Any) -> None:
            _subscribe(call, {"type": "bbo", **_coins(read(pb.BboBookRequest, data).coins)})

        await self._serve(context, BestPrices().make, ask, is_gap_told=True)

    async def _stream_l2_book_diff(self, data: bytes, context: Any) -> None:
        levels = Levels()

        async def ask(call: Call, _: Any) -> None:
            asked = read(pb.L2BookDiffRequest, data)
            levels.is_opening_skipped = asked.skip_initial_snapshot
            _subscribe(call, {"type": "l2Diff", **_coins(asked.coins), **_levels(asked)})

        await self._call(levels.writing).serve(context, ask)

    async def _stream_l4_book_updates(self, data: bytes, context: Any) -> None:
        orders = Orders()

        async def ask(call: Call, _: Any) -> None:
            coins = _coins(read(pb.L4BookUpdatesRequest, data).coins)
            if "coin" in coins:
                orders.are_of_one()
            _subscribe(call, {"type": "l4Diff", **coins})

        await self._call(orders.writing).serve(context, ask)

    async def _serve(
        self, context: Any, make: Making, ask: Reading, *, is_gap_told: bool = False
    ) -> None:
        await self._call(Plain(make, is_gap_told=is_gap_told)).serve(context, ask)

    def _call(self, writing: Plain) -> Call:
        return Call(self._door, writing, dialect=DIALECT, has_words=False)


def _subscribe(call: Call, subscription: dict[str, Any]) -> None:
    call.ask({"method": "subscribe", "id": 1, "subscription": subscription})


def _coins(names: Sequence[str]) -> dict[str, Any]:
    """The coins of a subscription; none are all. Raises CallEnds."""
    if not names:
        return {"marketTypes": list(MARKET_TYPES)}
    coins = list(dict.fromkeys(names))
    if len(coins) > MAX_NAMES:
        what = f"{len(coins):,} are named; up to {MAX_NAMES:,} can be, and none means all"
        raise bad_argument("coins", what)
    return {"coin": coins[0]} if len(coins) == 1 else {"coins": coins}


def _levels(asked: pb.L2BookRequest | pb.L2BookDiffRequest) -> dict[str, Any]:
    """How a book by price is wanted. Raises CallEnds."""
    levels: dict[str, Any] = {"nLevels": asked.n_levels or DEFAULT_LEVELS}
    if asked.n_levels > MAX_LEVELS:
        what = f"{asked.n_levels} is not 1 to {MAX_LEVELS}; 0 means {DEFAULT_LEVELS}"
        raise bad_argument("n_levels", what)
    if asked.HasField("n_sig_figs"):
        if not 2 <= asked.n_sig_figs <= 5:
            raise bad_argument("n_sig_figs", f"{asked.n_sig_figs} is not 2 to 5")
        levels["nSigFigs"] = asked.n_sig_figs
    if asked.HasField("mantissa"):
        if asked.mantissa not in (1, 2, 5):
            raise bad_argument("mantissa", f"{asked.mantissa} is none of 1, 2, 5")
        if asked.n_sig_figs != 5:
            raise bad_argument("mantissa", "it goes with n_sig_figs 5 alone")
        if asked.mantissa > 1:  # 1 is what there is without it
            levels["mantissa"] = asked.mantissa
    return levels


def _block(frame: RelayFrame) -> Iterable[bytes]:
    return made_once(frame, _block_bytes)


def _block_bytes(payload: bytes, _: int) -> bytes:
    return bytes_field(pb.Block.DATA_JSON_FIELD_NUMBER, node_text.events(payload))


def _l2_book(frame: RelayFrame) -> Iterable[bytes]:
    return made_once(frame, _l2_bytes)


def _l2_bytes(payload: bytes, height: int) -> bytes:
    book = typed.book(orjson.loads(payload)["data"])
    update = pb.L2BookUpdate(coin=book.coin, time=book.time, block_number=height)
    update.bids.extend(pb.L2Level(px=level.px, sz=level.sz, n=level.n) for level in book.bids)
    update.asks.extend(pb.L2Level(px=level.px, sz=level.sz, n=level.n) for level in book.asks)
    return update.SerializeToString()


def _l4_book(frame: RelayFrame) -> Iterable[Made]:
    parts = frame.parts
    if b'"Snapshot"' not in parts.stem[:64]:
        return made_once(frame, _l4_diff)
    if parts.forms is None:
        parts.forms = {}
    making = parts.forms.get("l4 snapshot")
    if making is None:
        making = asyncio.ensure_future(l4_snapshot.message(parts.payload))
        parts.forms["l4 snapshot"] = making
    return (making,)


def _l4_diff(payload: bytes, _: int) -> bytes:
    updates = orjson.loads(payload)["data"]["Updates"]
    changes = {name: updates[name] for name in ("order_statuses", "book_diffs")}
    diff = pb.L4BookDiff(
        time=updates["time"], height=updates["height"], data=orjson.dumps(changes).decode()
    )
    return pb.L4BookUpdate(diff=diff).SerializeToString()
