"""The load client sees each frame once, however the bytes arrive: the bench rests on it."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bench import build, payload

DEADLINE_S = 20
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()
TEXT, CONTINUATION, PING = 1, 0, 9
LAST = b"that was all"


@pytest.fixture(scope="session")
def load_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return build.compiled(build.LOAD_CLIENT, tmp_path_factory.mktemp("load"))


def frame(opcode: int, data: bytes, *, final: bool = True) -> bytes:
    first = bytes([opcode | (0x80 if final else 0)])
    if len(data) < 126:
        return first + bytes([len(data)]) + data
    if len(data) < 1 << 16:
        return first + b"\x7e" + len(data).to_bytes(2, "big") + data
    return first + b"\x7f" + len(data).to_bytes(8, "big") + data


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """A message on the wire, and how many stamped and unstamped ones that is."""
    kind = draw(st.sampled_from(["book", "big", "fragments", "other", "ping"]))
    if kind == "ping":
        return frame(PING, b"still there?"), 0, 0
    if kind == "other":
        return frame(TEXT, draw(st.binary(max_size=200)).replace(b"_b", b"__")), 0, 1
    text = payload.frame(draw(st.integers(0, 10**18)))
    if kind == "big":
        return frame(TEXT, text + b" " * 70_000), 1, 0
    if kind == "fragments":
        cut = draw(st.integers(60, len(text)))
        return frame(TEXT, text[:cut], final=False) + frame(CONTINUATION, text[cut:]), 1, 0
    return frame(TEXT, text), 1, 0


def conversation(load_client: Path, chunks: Sequence[bytes]) -> dict[str, int]:
    """What one client counts of `chunks`."""
    result: dict[str, int] = json.loads(printed(load_client, chunks)[-1])
    return result


def printed(load_client: Path, chunks: Sequence[bytes], *, mode: str = "idle") -> list[bytes]:
    """Send `chunks` to one client, wait until it has read the last, and return its lines."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        arguments = [mode, "--port", str(server.getsockname()[1])]
        with subprocess.Popen(
            [load_client, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(DEADLINE_S)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                read_until(peer, b"\r\n\r\n")
                sender = threading.Thread(target=send_all, args=(peer, chunks))
                sender.start()
                # The client answers pings in order, so the last pong comes after everything.
                read_until(peer, bytes(a ^ b for a, b in zip(LAST, mask(len(LAST)), strict=True)))
                sender.join()
                out, _ = client.communicate(timeout=DEADLINE_S)
    assert client.returncode == 0
    return out.splitlines()


def mask(size: int) -> bytes:
    return (b"\x37\xfa\x21\x3d" * size)[:size]


def send_all(peer: socket.socket, chunks: Sequence[bytes]) -> None:
    for chunk in chunks:
        peer.sendall(chunk)


def read_until(peer: socket.socket, end: bytes) -> None:
    seen = b""
    while end not in seen:
        more = peer.recv(65_536)
        assert more, "the client went away"
        seen = seen[-len(end) :] + more


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=st.lists(messages(), max_size=12), data=st.data())
def test_every_message_counts_once_however_the_bytes_are_cut(
    load_client: Path, sent: list[tuple[bytes, int, int]], data: st.DataObject
) -> None:
    wire = HANDSHAKE + b"".join(part for part, _, _ in sent) + frame(PING, LAST)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=40).map(sorted))
    edges = [0, *cuts, len(wire)]
    chunks = [wire[a:b] for a, b in itertools.pairwise(edges) if a < b]

    result = conversation(load_client, chunks)

    assert result["total_frames"] == sum(stamped for _, stamped, _ in sent)
    assert result["unstamped"] == sum(unstamped for _, _, unstamped in sent)


def test_of_each_block_time_the_last_read_is_kept(load_client: Path) -> None:
    def at(time_ms: int) -> bytes:
        return frame(TEXT, b'{"channel":"bbo","data":{"coin":"C1","time":%d}}' % time_ms)

    times = [1_778_002_753_024, 1_778_002_753_094, 1_778_002_753_024, 1_778_002_753_024 + (1 << 16)]
    chunks = [HANDSHAKE, *map(at, times), frame(TEXT, b"{}"), frame(PING, LAST)]
    _, *lines, result = printed(load_client, chunks, mode="last")
    last_ns = {int(ms): int(ns) for ms, ns in map(bytes.split, lines)}
    assert last_ns.keys() == set(times)
    assert (json.loads(result)["total_frames"], json.loads(result)["unstamped"]) == (4, 1)
    assert last_ns[times[0]] >= last_ns[times[1]]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "handshake refused: HTTP/1.1 401 Unauthorized"),
        (HANDSHAKE.replace(b"s3pP", b"AAAA"), "wrong Sec-WebSocket-Accept"),
        (HANDSHAKE + frame(8, b"\x0f\xa8"), "closed by the server, code 4008"),
        (HANDSHAKE + b"\x81\x81abcd1", "a server must not mask"),
    ],
)
def test_what_is_wrong_ends_the_run_with_its_name(
    load_client: Path, answer: bytes, complaint: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        arguments = ["idle", "--port", str(server.getsockname()[1])]
        with subprocess.Popen(
            [load_client, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            peer, _ = server.accept()
            with peer:
                read_until(peer, b"\r\n\r\n")
                peer.sendall(answer)
                assert client.stderr is not None
                line = client.stderr.readline().decode()
    assert complaint in line
    assert client.returncode == 1
