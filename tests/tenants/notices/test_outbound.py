"""One POST to where a tenant says: real servers, and a resolver that lies."""

from __future__ import annotations

import datetime
import gzip
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tenants.wire import outbound
from tenants.wire.outbound import Answer, NoAnswer
from tenants.wire.targets import TargetPolicy, TargetRefused
from tests.tenants.notices.receiver import Receiver, raw, status

HERE = TargetPolicy(allow_private=True)


async def post(url: str, *, policy: TargetPolicy = HERE, **options: Any) -> Answer:
    return await outbound.post(
        url, body=b"{}", headers={"X-Relay-Test": "1"}, policy=policy, **options
    )


class Flipping:
    """DNS that answers something else each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


class Only(TargetPolicy):
    """For tests that need a good and a bad address without leaving this host."""

    def check_address(self, text: str) -> None:
        if text != "127.0.0.2":
            raise TargetRefused("not 127.0.0.2")


async def test_sends_the_bytes_and_reads_the_answer() -> None:
    with Receiver(status(202, b"thank\x00you\n")) as server:
        answer = await post(server.url + "?a=1")
    assert (answer.status, answer.excerpt) == (202, "thank you ")
    assert answer.latency_ms >= 0
    (request,) = server.received
    assert (request.path, request.body) == ("/hook?a=1", b"{}")
    assert request.headers["X-Relay-Test"] == "1"
    assert request.headers["Host"] == f"127.0.0.1:{server.port}"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with Receiver() as inner, Receiver(status(307, b"", Location=inner.url)) as outer:
        assert (await post(outer.url)).status == 307
        assert (len(outer.received), len(inner.received)) == (1, 0)


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert (await post(server.url)).status == 200
        assert (len(server.received), len(proxy.received)) == (1, 0)


async def test_a_resolver_that_flips_is_asked_once_and_its_first_answer_used() -> None:
    with Receiver(host="127.0.0.2") as good, Receiver(host="127.0.0.1", port=good.port) as bad:
        flipping = Flipping(["127.0.0.2"], ["127.0.0.1"])
        url = f"http://rebind.example:{good.port}/"
        policy = Only(allow_private=True)
        assert (await post(url, policy=policy, resolve=flipping)).status == 200
        assert flipping.asked == 1
        with pytest.raises(TargetRefused):
            await post(url, policy=policy, resolve=flipping)
        both = Flipping(["127.0.0.2", "127.0.0.1"])
        with pytest.raises(TargetRefused):
            await post(url, policy=policy, resolve=both)
        assert (len(good.received), len(bad.received)) == (1, 0)
        assert good.received[0].headers["Host"] == f"rebind.example:{good.port}"


async def test_a_name_of_this_host_is_refused_unless_private_is_allowed() -> None:
    with Receiver() as server:
        with pytest.raises(TargetRefused, match="RELAY_WEBHOOKS_PRIVATE is off"):
            await post(f"https://localhost:{server.port}/", policy=TargetPolicy())
        assert (await post(f"http://localhost:{server.port}/")).status == 200
        assert len(server.received) == 1


async def test_the_socket_is_judged_once_more() -> None:
    """Whatever gets past the resolver, such as an address in the URL, meets the last gate."""

    class Late(TargetPolicy):
        judged = 0

        def check_address(self, text: str) -> None:
            Late.judged += 1
            if Late.judged > 1:
                raise TargetRefused("at the socket")

        def check_addresses(self, texts: Any) -> list[str]:
            return list(texts)

    with Receiver() as server:
        for url, addresses in (
            (server.url, []),
            (f"http://two.example:{server.port}/", ["127.0.0.1", "127.0.0.2"]),
        ):
            Late.judged = 0 if addresses == [] else 1
            with pytest.raises(NoAnswer, match="no connection"):
                await post(url, policy=Late(allow_private=True), resolve=Flipping(addresses))
    assert server.received == []


@pytest.mark.parametrize("manner", ["hang", "drip_header", "drip"])
async def test_a_slow_server_is_cut_at_the_deadline(manner: str) -> None:
    with Receiver() as server:
        server.script = [getattr(server, manner)]
        began_s = time.monotonic()
        if manner == "drip":  # the status was there in time, and it is what counts
            answer = await post(server.url, deadline_s=1.0)
            assert answer.status == 200
            assert 1 <= len(answer.excerpt) < 100
        else:
            with pytest.raises(NoAnswer, match=r"no answer within 1 s"):
                await post(server.url, deadline_s=1.0)
        assert 0.9 < time.monotonic() - began_s < 4


async def test_dns_that_hangs_is_cut_too() -> None:
    with Receiver() as server:

        def hang(host: str, port: int) -> list[str]:
            server.stopping.wait(15)
            return ["127.0.0.1"]

        began_s = time.monotonic()
        with pytest.raises(NoAnswer, match="no answer"):
            await post("https://slow.example/", deadline_s=0.3, resolve=hang)
        assert time.monotonic() - began_s < 3


async def test_of_a_huge_body_only_the_beginning_is_read() -> None:
    def endless(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:  # until the connection is closed
            handler.wfile.write(b"x" * 65_536)

    with Receiver(endless) as server:
        answer = await post(server.url)
    assert answer.excerpt == "x" * outbound.EXCERPT_CHARS


async def test_a_compressed_body_stays_compressed() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    with Receiver(status(200, bomb, Content_Encoding="gzip")) as server:
        answer = await post(server.url)
    assert answer.status == 200
    assert "000000" not in answer.excerpt


@pytest.mark.parametrize(
    "data",
    [
        b"not HTTP at all\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 999999 ?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"\x00\xff" * 500,
    ],
)
async def test_garbage_is_told_in_one_line(data: bytes) -> None:
    with Receiver(raw(data)) as server, pytest.raises(NoAnswer) as told:
        await post(server.url)
    assert "\n" not in str(told.value)
    assert "127.0.0.1" not in str(told.value)


async def test_a_body_that_lies_takes_nothing_from_the_status() -> None:
    lie = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"
    with Receiver(raw(lie)) as server:
        assert (await post(server.url)).status == 200


async def test_nobody_there() -> None:
    with Receiver() as server:
        pass
    with pytest.raises(NoAnswer, match="no connection"):
        await post(server.url)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS for `name`, and a client's that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_tls_asks_for_the_name_and_checks_it_at_the_judged_address(tmp_path: Path) -> None:
    server_tls, client_tls = certificate(tmp_path, "hooks.example")
    asked_for: list[str | None] = []
    server_tls.sni_callback = lambda _sock, name, _context: asked_for.append(name)
    here = Flipping(["127.0.0.1"])
    with Receiver(tls=server_tls) as server:
        url = f"https://hooks.example:{server.port}/"
        assert (await post(url, resolve=here, tls=client_tls)).status == 200
        assert asked_for == ["hooks.example"]
        assert server.received[0].headers["Host"] == f"hooks.example:{server.port}"
        with pytest.raises(NoAnswer, match="certificate"):
            await post(f"https://other.example:{server.port}/", resolve=here, tls=client_tls)
        with pytest.raises(NoAnswer, match="certificate"):  # the system's roots do not know it
            await post(url, resolve=here)
        assert len(server.received) == 1
