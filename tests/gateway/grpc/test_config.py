"""What is wrong with the settings of the gRPC door is said before anything listens."""

from __future__ import annotations

from pathlib import Path

from gateway.grpc.config import Tls, tls_of, tls_problems
from gateway.grpc.door import caller_of, key_of
from tenants.admission.access import parse_network


def test_tls_files_belong_together_and_can_be_read(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.write_text("x")
    here, gone = str(pem), str(tmp_path / "gone.pem")
    assert list(tls_problems("", "", "")) == []
    assert list(tls_problems(here, here, here)) == []
    assert len(list(tls_problems(here, "", ""))) == 1
    assert len(list(tls_problems("", "", here))) == 1
    (problem,) = tls_problems(here, here, gone)
    assert problem.startswith("RELAY_GRPC_TLS_CLIENT_CA: cannot read")
    assert tls_of("", "", "") is None
    assert tls_of(here, here, "") == Tls(pem, pem)


def test_the_key_in_the_order_of_its_places() -> None:
    every = [("authorization", "Bearer c"), ("x-token", b" b "), ("x-api-key", "a")]
    assert [key_of(every[:count]) for count in range(4)] == [None, "c", "b", "a"]
    assert key_of([("authorization", "Basic xyz")]) is None


def test_who_calls_is_the_peer_or_whom_a_trusted_proxy_names() -> None:
    trusted = [parse_network("127.0.0.0/8")]
    said = [("x-forwarded-for", "198.51.100.1, 192.0.2.7")]
    for peer, metadata, address in (
        ("ipv4:203.0.113.9:4711", said, "203.0.113.9"),
        ("ipv4:127.0.0.1:4711", said, "192.0.2.7"),
        ("ipv4:127.0.0.1:4711", [], "127.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:4711", [], "2001:db8::1"),
        ("unix:/tmp/x", [], ""),
    ):
        assert caller_of(peer, metadata, trusted=trusted).address == address
