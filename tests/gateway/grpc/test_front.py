"""The shipped nginx before a gRPC process: streams pass, also quiet ones, and it writes no key."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import grpc

from relay_site.processes import free_port
from streaming.core.envelope import Role
from tests.conftest import skip
from tests.gateway.grpc.clients import Stream, tids, trade
from tests.support.front import front
from tests.support.grpc_edge import GrpcEdge
from tests.support.services import Missing

#: Longer than nginx waits for the body of any other request.
QUIET_S = 2.0


def test_a_stream_passes_the_front_and_may_be_quiet(edge: GrpcEdge, tmp_path: Path) -> None:
    try:
        with front(tmp_path, backends=[free_port()], grpc=edge.grpc_port) as port:
            certificate = ssl.get_server_certificate(("127.0.0.1", port)).encode()
            channel = grpc.secure_channel(
                f"127.0.0.1:{port}",
                grpc.ssl_channel_credentials(certificate),
                options=[("grpc.ssl_target_name_override", "x")],
            )
            with channel:
                stream = Stream(channel, edge.metadata)
                stream.subscribe(id="t", channel="trades", coins=["FRONT"])
                edge.wait_for_lease("trades FRONT")
                edge.tell(trade("FRONT", 1, Role.SNAPSHOT))
                stream.until_kind("json")
                time.sleep(QUIET_S)
                edge.tell(trade("FRONT", 2))
                assert tids(stream.until_kind("json")) == [2]
                stream.ping(7)
                assert stream.until_kind("pong")[-1].pong.nonce == 7
                stream.call.cancel()
                code, _, trailing = Stream(channel, ()).end()
    except Missing as missing:
        skip(str(missing))
        raise
    assert (code, trailing["hlrelay-code"]) == (grpc.StatusCode.UNAUTHENTICATED, "missing_key")
    log = (tmp_path / "hl-relay.access.log").read_text()
    assert " POST grpc 200 " in log
    assert edge.api_key not in log
