"""What is written by hand is what the generated classes write."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.grpc import wire
from gateway.grpc.envelopes import MAX_PART_BYTES, Envelopes, form_of
from gateway.grpc.filters import Filter, Filters
from gateway.grpc.generated.hlrelay.v1 import relay_pb2 as pb
from streaming.core.counted import counted_of
from streaming.core.envelope import LAST_INDEX, Position, Times
from streaming.core.streams import Mark, Parts, RelayFrame, Stream, Subscription
from streaming.core.topic import Kind, Topic

U64 = st.integers(0, 2**64 - 1)
TIMES = st.builds(Times, U64, U64, U64, U64)
PLACES = st.builds(Position, U64, st.integers(0, LAST_INDEX))


class _Session:
    """As much of a session as a subscription asks for here."""

    node_workers = frozenset[str]()


def stream_of(kind: Kind, name: str, *, is_typed: bool = False) -> Stream:
    session = _Session()
    subscription = Subscription(session, id_json=json.dumps(name).encode(), echo="{}")  # type: ignore[arg-type]
    form_of(subscription, is_typed=is_typed)
    topic = Topic(kind, "BTC")
    stream = Stream(subscription, topic)
    subscription.streams[topic] = stream
    return stream


@given(U64)
def test_varints(value: int) -> None:
    seq = pb.Envelope.SEQ_FIELD_NUMBER
    data = wire.number_field(seq, value)
    assert data == pb.Envelope(seq=value).SerializeToString()


@given(
    name=st.text(min_size=1, max_size=64),
    seq=st.integers(0, 2**40),
    place=PLACES,
    times=TIMES,
    epoch=st.text(max_size=20),
    text=st.text(max_size=300),
    kind=st.sampled_from([Kind.BBO, Kind.L2_DIFF]),
)
def test_a_light_item_is_an_envelope(
    name: str, seq: int, place: Position, times: Times, epoch: str, text: str, kind: Kind
) -> None:
    stream = stream_of(kind, name)
    era = stream.subscription.era
    era.seq = stream.last_seq = seq
    stream.last_era = era
    payload = json.dumps({"channel": kind, "data": text}).encode()
    parts = Parts(payload, stream.topic, epoch=epoch, position=place, times=times)
    written = Envelopes().write([(stream, parts, place, era)] * 2)
    (message,) = written.messages
    want = pb.Envelope(
        sub_id=name,
        height=place.height,
        index=place.index,
        cursor=parts.cursor.decode(),
        epoch=epoch,
        t_block=times.block_ns,
        t_node=times.node_ns,
        t_in=times.in_ns,
        t_out=times.out_ns,
        json=payload,
    )
    got = pb.StreamResponse.FromString(message).envelopes
    for number, envelope in enumerate(got):
        want.seq = seq + number + 1
        want.prev_seq = seq + number if kind is Kind.L2_DIFF else 0
        assert envelope == want
    (counted,) = written.tally
    assert counted == (stream.counted, 2, sum(envelope.ByteSize() for envelope in got))


@given(
    marks=st.integers(0, 7),
    conflated=st.integers(0, 10_000),
    place=PLACES,
    cursor=st.text("abc", min_size=1, max_size=50),
)
def test_a_frame_is_an_envelope_with_its_marks(
    marks: int, conflated: int, place: Position, cursor: str
) -> None:
    stream = stream_of(Kind.TRADES, "t")
    parts = Parts(b'{"channel":"trades"}', stream.topic, epoch="n-1", position=place, times=Times())
    frame = RelayFrame(
        stream,
        parts,
        cursor=cursor.encode(),
        marks=marks,
        counted=counted_of(stream.topic),
        after=place,
        made_s=None,
    )
    frame.conflated = conflated
    (message,) = Envelopes().write([frame]).messages
    (got,) = pb.StreamResponse.FromString(message).envelopes
    assert got == pb.Envelope(
        sub_id="t",
        seq=1,
        height=place.height,
        index=place.index,
        cursor=cursor,
        epoch="n-1",
        json=b'{"channel":"trades"}',
        conflated=conflated,
        replay=bool(marks & Mark.REPLAY),
        snapshot=bool(marks & Mark.SNAPSHOT),
        partial=bool(marks & Mark.PARTIAL),
    )


@given(st.integers(1, 3), st.integers(-2, 2))
def test_parts_are_the_whole(times_over: int, more: int) -> None:
    stream = stream_of(Kind.L4_BOOK, "l")
    payload = b"{" + b"x" * (MAX_PART_BYTES * times_over + more) + b"}"
    parts = Parts(payload, stream.topic, epoch="", position=Position(1), times=Times())
    era = stream.subscription.era
    written = Envelopes().write([(stream, parts, Position(0), era)])
    messages = list(written.messages)
    got = [e for m in messages for e in pb.StreamResponse.FromString(m).envelopes]
    ((_, messages_counted, bytes_counted),) = written.tally
    assert (messages_counted, bytes_counted) == (1, sum(e.ByteSize() for e in got))
    assert b"".join(e.json for e in got) == payload
    assert {e.seq for e in got} == {1}
    assert all(len(m) <= 1_000_000 for m in messages)
    if len(got) > 1:
        assert [(e.part, e.parts) for e in got] == [(n + 1, len(got)) for n in range(len(got))]


def test_filters_look_deep_and_take_any_value_of_each_field() -> None:
    events = [
        ["0xAB", {"coin": "BTC", "side": "A"}],
        ["0xcd", {"coin": "ETH", "side": "B"}],
        {"deep": [{"coin": "BTC", "n": 3, "side": "B"}]},
    ]
    text = json.dumps(events).encode()[1:-1]

    def kept(*named: tuple[str, dict[str, list[str]]]) -> list[int]:
        filters = Filters()
        for name, fields in named:
            filters.add(name, Filter(fields))
        own = json.loads(b"[%b]" % filters.own(text))
        return [events.index(event) for event in own]

    assert kept() == [0, 1, 2]
    assert kept(("", {})) == [0, 1, 2]
    assert kept(("", {"coin": ["BTC"]})) == [0, 2]
    assert kept(("", {"coin": ["BTC", "ETH"], "side": ["B"]})) == [1, 2]
    assert kept(("a", {"user": ["0xab"]}), ("b", {"n": ["3"]})) == [0, 2]
    assert kept(("", {"coin": ["SOL"]})) == []
