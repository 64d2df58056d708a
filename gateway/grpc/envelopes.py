"""What waits for a customer → `StreamResponse` bytes.

All that an envelope has in common with everybody else's is made once for each frame of a topic
(`Parts.forms`); before it stand a subscription's id and number. The rest of the file is for the few
that have more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import orjson

from gateway.grpc import events
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from gateway.grpc.statuses import CallEnds
from gateway.grpc.typed import typed
from gateway.grpc.wire import BYTES, bytes_field, message_field, number_field, tag, varint
from streaming.core.batch import Tally
from streaming.core.counted import Counted
from streaming.core.outbox import Frame
from streaming.core.streams import Era, Item, Mark, Parts, RelayFrame, Stream, Subscription

#: What one envelope carries of a text at most: clients take 4 MB, and some proxies 1 MB.
MAX_PART_BYTES = 960 * 1024

_E = pb.Envelope
_SEQ = tag(_E.SEQ_FIELD_NUMBER, 0)
_JSON = tag(_E.JSON_FIELD_NUMBER, BYTES)
#: Operations on the flags themselves are function calls.
_SNAPSHOT, _REPLAY, _PARTIAL = int(Mark.SNAPSHOT), int(Mark.REPLAY), int(Mark.PARTIAL)
_NONE: dict[str, bytes] = {}
_ENVELOPE = tag(pb.StreamResponse.ENVELOPES_FIELD_NUMBER, BYTES)


#: A message, or one that is still made.
Made = bytes | asyncio.Future[bytes]


class Written(NamedTuple):
    """Messages in order, what they add to the meter once they are gone, and whether the call ends
    behind them."""

    messages: Iterable[Made]
    tally: Tally
    ends: CallEnds | None = None


class Form(NamedTuple):
    """How the updates of one subscription are written."""

    head: bytes  # its id, and what stands before the number
    is_typed: bool
    common: str  # among `Parts.forms`: all behind the number


def form_of(subscription: Subscription, *, is_typed: bool = False) -> Form:
    """The form of a subscription; `is_typed` counts when it is asked for the first time."""
    form: Form | None = subscription.form
    if form is None:
        name = str(orjson.loads(subscription.id_json)).encode()
        head = bytes_field(_E.SUB_ID_FIELD_NUMBER, name) + _SEQ
        form = subscription.form = Form(
            head, is_typed, "typed envelope" if is_typed else "envelope"
        )
    return form


class Envelopes:
    """Implements `call_sink.Writing` for `hlrelay.v1`: what leaves at once is one response."""

    def write(self, items: Sequence[Item]) -> Written:
        """All of `items`, numbered now. One that is larger than a part stands alone."""
        if is_large(items[0]):
            return _in_parts(items[0])
        pieces: list[bytes] = []
        messages: dict[Counted, int] = {}
        sizes: dict[Counted, int] = {}
        counted: Counted | None
        for item in items:
            if isinstance(item, tuple):  # nearly always
                stream, parts, _, era = item
                counted, one = stream.counted, 1
                seq = era.seq = era.seq + 1
                form = stream.subscription.form or form_of(stream.subscription)
                number = varint(seq)
                if stream.is_numbered:
                    number += _previous(stream, era, seq)
                common = (parts.forms or _NONE).get(form.common) or _common(parts, form)
                size_bytes = len(form.head) + len(number) + len(common)
                pieces += (_ENVELOPE, varint(size_bytes), form.head, number, common)
            else:
                if isinstance(item, RelayFrame):
                    counted = item.counted
                    one = counted.messages if counted else 0
                    body = _head(item) + _payload(item.parts, is_typed=_form(item.stream).is_typed)
                else:
                    counted, one = None, 0
                    body = events.envelope(item.payload)
                size_bytes = len(body)
                pieces += (_ENVELOPE, varint(size_bytes), body)
                if counted is None:
                    continue
            if counted in messages:
                messages[counted] += one
                sizes[counted] += size_bytes
            else:
                messages[counted] = one
                sizes[counted] = size_bytes
        tally = list(zip(messages, messages.values(), sizes.values(), strict=True))
        return Written((b"".join(pieces),), tally)


def _previous(stream: Stream, era: Era, seq: int) -> bytes:
    """The number of the frame before, of a stream whose frames name it."""
    previous = stream.last_seq if stream.last_era is era else 0
    stream.last_era, stream.last_seq = era, seq
    return number_field(_E.PREV_SEQ_FIELD_NUMBER, previous)


def is_large(item: Item) -> bool:
    """Whether it does not fit into one envelope."""
    parts = item[1] if isinstance(item, tuple) else getattr(item, "parts", None)
    return parts is not None and len(parts.stem) > MAX_PART_BYTES


def _form(stream: Stream) -> Form:
    return stream.subscription.form or form_of(stream.subscription)


def _head(frame: RelayFrame) -> bytes:
    """All but the payload, numbered now."""
    marks = int(frame.marks)
    seq, previous = frame.take_number()
    return b"".join(
        (
            _form(frame.stream).head,
            varint(seq),
            number_field(_E.PREV_SEQ_FIELD_NUMBER, previous),
            bytes_field(_E.CURSOR_FIELD_NUMBER, frame.cursor),
            number_field(_E.SNAPSHOT_FIELD_NUMBER, bool(marks & _SNAPSHOT)),
            number_field(_E.REPLAY_FIELD_NUMBER, bool(marks & _REPLAY)),
            number_field(_E.PARTIAL_FIELD_NUMBER, bool(marks & _PARTIAL)),
            number_field(_E.CONFLATED_FIELD_NUMBER, frame.conflated),
            _place(frame.parts),
        )
    )


def envelope_of(item: Frame | Item) -> pb.Envelope:
    """One item as a message, for tests and those who need its fields."""
    (message,) = Envelopes().write([item]).messages
    return pb.StreamResponse.FromString(message).envelopes[0]


def _forms(parts: Parts) -> dict[str, bytes]:
    forms = parts.forms
    if forms is None:
        forms = parts.forms = {}
    return forms


def _common(parts: Parts, form: Form) -> bytes:
    """All that follows the number, of a subscription to this topic alone; made once."""
    cursor = bytes_field(_E.CURSOR_FIELD_NUMBER, parts.cursor)
    payload = _payload(parts, is_typed=form.is_typed)
    common = _forms(parts)[form.common] = b"".join((cursor, _place(parts), payload))
    return common


def _place(parts: Parts) -> bytes:
    forms = _forms(parts)
    place = forms.get("place")
    if place is None:
        position, times = parts.position, parts.times
        place = forms["place"] = b"".join(
            (
                number_field(_E.HEIGHT_FIELD_NUMBER, position.height),
                number_field(_E.INDEX_FIELD_NUMBER, position.index),
                bytes_field(_E.EPOCH_FIELD_NUMBER, parts.epoch.encode()),
                number_field(_E.T_BLOCK_FIELD_NUMBER, times.block_ns),
                number_field(_E.T_NODE_FIELD_NUMBER, times.node_ns),
                number_field(_E.T_IN_FIELD_NUMBER, times.in_ns),
                number_field(_E.T_OUT_FIELD_NUMBER, times.out_ns),
            )
        )
    return place


def _payload(parts: Parts, *, is_typed: bool) -> bytes:
    forms, name = _forms(parts), "typed" if is_typed else "json"
    payload = forms.get(name)
    if payload is None:
        own = typed(parts.topic.kind, parts.payload) if is_typed else None
        number, data = own or (_E.JSON_FIELD_NUMBER, parts.payload)
        payload = forms[name] = message_field(number, data)
    return payload


def _in_parts(item: Item) -> Written:
    """An update that is too large for one envelope, each part made when it leaves: a snapshot of
    BTC's `l4Book` is 19 MB, and who reads it slowly must not hold a copy of their own."""
    frame = RelayFrame.of(*item) if isinstance(item, tuple) else item
    assert isinstance(frame, RelayFrame)  # noqa: S101
    stem, head = frame.parts.stem, _head(frame)
    count = -(-len(stem) // MAX_PART_BYTES)

    def head_of(number: int) -> bytes:
        """All of an envelope but its piece."""
        size_bytes = min(MAX_PART_BYTES, len(stem) - number * MAX_PART_BYTES)
        size_bytes += number == count - 1  # the brace
        return b"".join(
            (
                head,
                number_field(_E.PART_FIELD_NUMBER, number + 1),
                number_field(_E.PARTS_FIELD_NUMBER, count),
                _JSON,
                varint(size_bytes),
            )
        )

    def responses() -> Iterator[bytes]:
        for number in range(count):
            begin = number * MAX_PART_BYTES
            piece = stem[begin : begin + MAX_PART_BYTES] + b"}" * (number == count - 1)
            own = head_of(number)
            yield b"".join((_ENVELOPE, varint(len(own) + len(piece)), own, piece))

    counted = frame.counted
    size_bytes = len(stem) + 1 + sum(len(head_of(number)) for number in range(count))
    tally: Tally = [] if counted is None else [(counted, counted.messages, size_bytes)]
    return Written(responses(), tally)
