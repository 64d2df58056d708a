"""The servers that are measured: ours, the ones people would write instead, and the limit in C."""

from __future__ import annotations

from tests.bench.subjects import grpc_servers, http_servers, others, relay
from tests.bench.subjects.contract import Subject

#: In the order of the table; ours first, because the others are shown as ratios to it.
SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        relay.Relay(),
        relay.RelayInPython(),
        others.Channels(),
        others.Uvicorn(),
        others.Picows(),
        others.NodeWs(),
        others.UWebSockets(),
        others.CLoop(),
        others.Bare(),
        http_servers.RelayHttp(),
        http_servers.RelayEdge(),
        http_servers.Drf(),
        grpc_servers.RelayGrpc(),
        grpc_servers.GrpcBare(),
        grpc_servers.GrpcJoined(),
    )
}
