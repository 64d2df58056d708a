"""A gRPC process that ends lets its customers go; and TLS, with and without client certificates."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest

from streaming.core.envelope import Role
from tests.gateway.grpc.clients import Stream, tids, trade
from tests.support.edge import DEADLINE_S
from tests.support.grpc_edge import GrpcEdge
from tests.support.services import find_binary

DRAIN_S = 2.0
CUSTOMERS = 10


def test_a_drain_tells_everybody_and_lets_them_go_one_by_one(
    redis_url: str, tmp_path: Path
) -> None:
    edge = GrpcEdge(
        tmp_path / "var", redis_url=redis_url.removesuffix("/0") + "/8", drain_s=DRAIN_S
    )
    edge.start()
    ends: list[tuple[float, str, str, int, list[int]]] = []

    def follow(stream: Stream) -> None:
        told, got = -1, []
        try:
            for envelope in stream:
                if envelope.WhichOneof("what") == "going_away":
                    told = envelope.going_away.in_ms
                got.append(envelope)
        except grpc.RpcError:
            pass
        status = stream.call.code().name
        ends.append((time.monotonic(), status, stream.call.details() or "", told, tids(got)))

    channels = [edge.channel(**{"grpc.use_local_subchannel_pool": 1}) for _ in range(CUSTOMERS)]
    streams = [Stream(channel, edge.metadata) for channel in channels]
    for stream in streams:
        stream.subscribe(id="t", channel="trades", coins=["DRAIN"])
        stream.until_kind("subscribed")
    edge.tell(trade("DRAIN", 100, Role.SNAPSHOT))
    threads = [threading.Thread(target=follow, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    begun_s = time.monotonic()
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(DEADLINE_S) == 0
    took_s = time.monotonic() - begun_s
    for thread in threads:
        thread.join(DEADLINE_S)
    for channel in channels:
        channel.close()
    assert {(status, line) for _, status, line, _, _ in ends} == {
        ("UNAVAILABLE", "This process ends: call again.")
    }
    assert all(0 <= told <= DRAIN_S * 1000 for _, _, _, told, _ in ends)
    assert all(got == [100] for *_, got in ends)
    times = sorted(at_s for at_s, *_ in ends)
    assert times[-1] - times[0] > DRAIN_S / 3
    assert took_s < DRAIN_S + 8


class Authority:
    """A certificate authority of our own, and what it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._openssl = find_binary("openssl", package="openssl")
        self.folder, self.name = folder, name
        self._run(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}",
        )  # fmt: skip

    def sign(self, who: str) -> tuple[Path, Path]:
        """A certificate and its key, for 127.0.0.1."""
        (self.folder / "ext").write_text("subjectAltName=IP:127.0.0.1")
        self._run(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}",
        )  # fmt: skip
        self._run(
            "x509", "-req", "-in", f"{who}.csr", "-CA", f"{self.name}.pem", "-CAkey",
            f"{self.name}.key", "-CAcreateserial", "-out", f"{who}.pem", "-days", "2",
            "-extfile", "ext",
        )  # fmt: skip
        return self.folder / f"{who}.pem", self.folder / f"{who}.key"

    @property
    def pem(self) -> Path:
        """Its own certificate."""
        return self.folder / f"{self.name}.pem"

    def _run(self, *arguments: str) -> None:
        command = [self._openssl, *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


@pytest.mark.parametrize("is_mutual", [False, True])
def test_tls_and_clients_certificates(redis_url: str, tmp_path: Path, is_mutual: bool) -> None:
    own, foreign = Authority(tmp_path, "own"), Authority(tmp_path, "foreign")
    cert, key = own.sign("server")
    variables = {"RELAY_GRPC_TLS_CERT": str(cert), "RELAY_GRPC_TLS_KEY": str(key)}
    if is_mutual:
        variables["RELAY_GRPC_TLS_CLIENT_CA"] = str(own.pem)
    edge = GrpcEdge(
        tmp_path / "var", redis_url=redis_url.removesuffix("/0") + "/9", variables=variables
    )
    edge.start()

    def answers(credentials: grpc.ChannelCredentials | None) -> bool:
        opened = (
            grpc.secure_channel(edge.target, credentials)
            if credentials is not None
            else grpc.insecure_channel(edge.target)
        )
        with opened as channel:
            try:
                return edge.health(channel) == "NOT_SERVING"
            except grpc.RpcError as error:
                return error.code() is not grpc.StatusCode.UNAVAILABLE

    def credentials(of: Authority | None) -> grpc.ChannelCredentials:
        root = own.pem.read_bytes()
        if of is None:
            return grpc.ssl_channel_credentials(root)
        pem, private = of.sign(f"client-of-{of.name}")
        return grpc.ssl_channel_credentials(root, private.read_bytes(), pem.read_bytes())

    try:
        assert not answers(None)
        assert answers(credentials(None)) is not is_mutual
        assert answers(credentials(own))
        assert answers(credentials(foreign)) is not is_mutual
    finally:
        edge.stop()
