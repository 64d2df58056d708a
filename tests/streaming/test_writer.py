"""One customer's way out: in order, metered when the kernel has it, bounded when it takes none."""

from hypothesis import given
from hypothesis import strategies as st

from streaming.core.batch import Batch, Tally
from streaming.core.counted import counted
from streaming.core.outbox import Frame
from streaming.ws import close_codes
from streaming.ws.writer import Writer


class Kernel:
    """A wire whose appetite the test controls."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.appetite = 0
        self.held = b""
        self.writer: Writer
        self.is_dead = False

    def send(self, data: bytes | memoryview) -> int:
        if self.is_dead:
            raise BrokenPipeError
        count = min(self.appetite, len(data))
        self.taken += bytes(data[:count])
        self.appetite -= count
        return count

    def buffer(self, data: bytes) -> None:
        assert not self.held
        self.held = data
        self.writer.blocked(now_s=1.0)

    def drain(self, appetite: int) -> None:
        """The peer read: the transport's buffer goes first, then the writer is resumed."""
        self.appetite += appetite
        if self.held:
            count = min(self.appetite, len(self.held))
            self.taken += self.held[:count]
            self.held = self.held[count:]
            self.appetite -= count
        if not self.held and self.writer.is_blocked:
            self.writer.resume(now_s=2.0)


class Ledger:
    def __init__(self) -> None:
        self.messages = 0
        self.size = 0

    def delivered(self, tally: Tally) -> None:
        self.messages += sum(messages for _, messages, _ in tally)
        self.size += sum(size for _, _, size in tally)


def build() -> tuple[Writer, Kernel, Ledger, list[str]]:
    kernel, ledger, cuts = Kernel(), Ledger(), []
    writer = Writer(kernel, account=ledger, on_overflow=lambda: cuts.append("slow"))
    kernel.writer = writer
    return writer, kernel, ledger, cuts


def frame(number: int, size: int = 100, topic: str | None = None) -> Frame:
    return Frame(f"{number:08d}".encode() + b"." * size, counted=counted("trades"), topic=topic)


def test_straight_through_while_the_kernel_takes_it() -> None:
    writer, kernel, ledger, _ = build()
    kernel.appetite = 10_000
    frames = (frame(1), frame(2))
    writer.send(Batch(frames))
    assert bytes(kernel.taken) == frames[0].wire + frames[1].wire
    assert (ledger.messages, ledger.size) == (2, 216)
    assert not writer.is_blocked


def test_a_frame_counts_when_its_last_byte_is_in_the_kernel() -> None:
    writer, kernel, ledger, _ = build()
    frames = (frame(1), frame(2))
    kernel.appetite = len(frames[0].wire) + 5
    writer.send(Batch(frames))
    assert ledger.messages == 1
    kernel.drain(len(frames[1].wire) - 6)
    assert ledger.messages == 1
    kernel.drain(1)
    assert ledger.messages == 2
    assert bytes(kernel.taken) == frames[0].wire + frames[1].wire


def test_a_reader_who_stops_is_cut_within_the_bound() -> None:
    writer, _kernel, ledger, cuts = build()
    number = 0
    while not cuts:
        number += 1
        writer.send(Batch((frame(number, size=1_600),)))
        assert writer.held_bytes <= close_codes.MAX_OUTBOUND_BYTES + 64 * 1024 + 2_000
    assert number * 1_600 > close_codes.MAX_OUTBOUND_BYTES * 0.9
    assert ledger.messages == 0


def test_a_reader_of_bulk_is_cut_when_it_is_too_far_behind_and_not_before() -> None:
    writer, kernel, ledger, cuts = build()
    made = [
        Frame(b"x" * 400_000, counted=counted("l4Book"), made_s=number / 15) for number in range(90)
    ]
    for one in made[:60]:
        writer.send(Batch((one,)))
    assert not cuts
    assert writer.held_bytes <= 64 * 1024, "shared by all who wait"
    assert writer.held_frames == 60
    kernel.drain(10**9)
    assert ledger.messages == 60
    kernel.appetite = 0
    for one in made:
        writer.send(Batch((one,)))
    assert cuts


def test_states_conflate_and_never_overflow() -> None:
    writer, kernel, _, cuts = build()
    for number in range(5_000):
        writer.send(Batch((frame(number, size=1_600, topic="l2Book BTC"),)))
    kernel.drain(10**9)
    assert not cuts
    assert writer.conflated == 4_998
    assert b"00004999" in kernel.taken


def test_a_dead_peer_takes_nothing_and_costs_nothing() -> None:
    writer, kernel, ledger, cuts = build()
    kernel.is_dead = True
    for number in range(10):
        writer.send(Batch((frame(number),)))
    assert (ledger.messages, cuts, writer.held_bytes) == (0, [], 0)


@given(
    st.lists(
        st.one_of(
            st.lists(st.integers(0, 90_000), min_size=1, max_size=4),
            st.integers(1, 200_000),
        ),
        max_size=30,
    )
)
def test_the_stream_is_the_frames_in_order_and_the_meter_is_exact(
    steps: list[list[int] | int],
) -> None:
    """Whatever the kernel takes when: each byte once, in order; the meter counts whole frames."""
    writer, kernel, ledger, cuts = build()
    sent: list[Frame] = []
    for step in steps:
        if isinstance(step, int):
            kernel.drain(step)
        elif not cuts:
            frames = tuple(frame(len(sent) + i, size) for i, size in enumerate(step))
            writer.send(Batch(frames))
            if not cuts:
                sent += frames
        whole = 0
        end = 0
        for one in sent:
            end += len(one.wire)
            whole += end <= len(kernel.taken)
        # What sits in the transport's buffer is counted when it has left: the meter never leads.
        assert ledger.messages <= whole
    expected = b"".join(f.wire for f in sent)
    assert expected.startswith(bytes(kernel.taken)) or cuts
    if not cuts:
        kernel.drain(10**9)
        assert bytes(kernel.taken) == expected
        assert ledger.messages == len(sent)


def test_a_huge_frame_may_take_its_time_and_others_wait_behind_it() -> None:
    """A 19 MB book snapshot is shared, not this customer's: what waits behind it counts."""
    writer, kernel, ledger, cuts = build()
    huge, update = frame(0, size=19_000_000), frame(1)
    kernel.appetite = 100_000
    writer.send(Batch((huge,)))
    writer.send(Batch((update,)))
    assert not cuts
    assert writer.held_bytes < 100_000
    for _ in range(40):
        kernel.drain(500_000)
    assert bytes(kernel.taken) == huge.wire + update.wire
    assert ledger.messages == 2


def test_one_tick_of_many_frames_is_bounded_too() -> None:
    writer, _, _, cuts = build()
    writer.send(Batch(tuple(frame(number, size=8_000) for number in range(1_000))))
    assert cuts == ["slow"]
    assert writer.held_bytes <= close_codes.MAX_OUTBOUND_BYTES + 64 * 1024


def test_the_close_frame_finds_its_way_through_a_full_outbox() -> None:
    writer, kernel, _, cuts = build()
    number = 0
    while not cuts:
        number += 1
        writer.send(Batch((frame(number, size=1_600),)))
    close = Frame(b"bye")
    writer.control(close, is_last=True)
    kernel.drain(10**9)
    assert bytes(kernel.taken).endswith(close.wire)
