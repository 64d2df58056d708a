"""Which URLs and addresses a tenant may name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.wire.targets import TargetPolicy, TargetRefused

PUBLIC, PRIVATE = TargetPolicy(), TargetPolicy(allow_private=True)

#: URL, and whether it passes with private targets off and on. Names pass: their addresses are
#: judged once they are resolved.
URLS: list[tuple[str, bool, bool]] = [
    ("https://hooks.example/relay", True, True),
    ("https://hooks.example", True, True),
    ("HTTPS://HOOKS.EXAMPLE/Relay?x=1&y=%20", True, True),
    ("https://hooks.example:443/", True, True),
    ("https://hooks.example:8443/", True, True),
    ("https://bücher.example/", True, True),
    ("https://a_b.example./", True, True),
    ("https://8.8.8.8/", True, True),
    ("https://[2606:4700:4700::1111]/", True, True),
    ("https://[::ffff:8.8.8.8]/", True, True),
    ("https://[64:ff9b::808:808]/", True, True),
    ("https://localhost/", True, True),  # a name; refused when it resolves
    # schemes
    ("http://hooks.example/", False, True),
    ("ftp://hooks.example/", False, False),
    ("file:///etc/passwd", False, False),
    ("gopher://hooks.example/", False, False),
    ("javascript:alert(1)", False, False),
    ("data:text/plain,x", False, False),
    ("unix:///run/redis.sock", False, False),
    ("//hooks.example/", False, False),
    ("hooks.example", False, False),
    ("", False, False),
    # authority tricks
    ("https://hooks.example@127.0.0.1/", False, False),
    ("https://user:password@hooks.example/", False, False),
    ("https://@hooks.example/", False, False),
    ("https://8.8.8.8\\@127.0.0.1/", False, False),
    ("https://hooks.example\\.evil.example/", False, False),
    ("https://hooks.example#@evil.example/", False, False),
    ("https://hooks.example/#", False, False),
    ("https:///path", False, False),
    ("https://:443/", False, False),
    ("https://hooks.example/\nHost: evil", False, False),
    ("https://hooks example/", False, False),
    ("https://hooks.example/\u0000", False, False),
    ("https://hooks..example/", False, False),
    ("https://-hooks.example/", False, False),
    ("https://hooks.example/" + "x" * 500, False, False),
    # ports
    ("https://hooks.example:22/", False, True),
    ("https://hooks.example:25/", False, True),
    ("https://hooks.example:80/", False, True),
    ("https://hooks.example:0/", False, False),
    ("https://hooks.example:65536/", False, False),
    ("https://hooks.example:port/", False, False),
    # loopback, by every spelling
    ("https://127.0.0.1/", False, True),
    ("https://127.8.9.10/", False, True),
    ("https://[::1]/", False, True),
    ("https://[::ffff:127.0.0.1]/", False, True),
    ("https://[64:ff9b::7f00:1]/", False, True),
    ("https://2130706433/", False, False),
    ("https://0x7f000001/", False, False),
    ("https://0177.0.0.1/", False, False),
    ("https://0x7f.1/", False, False),
    ("https://127.1/", False, False),
    ("https://127.0.0.1./", False, False),
    ("https://１27.0.0.1/", False, True),  # becomes 127.0.0.1, and is judged as that
    ("https://0.0.0.0/", False, False),
    ("https://0/", False, False),
    ("https://[::]/", False, False),
    # private networks
    ("https://10.1.2.3/", False, True),
    ("https://172.31.255.255/", False, True),
    ("https://192.168.0.1/", False, True),
    ("https://100.64.0.1/", False, True),
    ("https://[fd00::1]/", False, True),
    ("https://[::ffff:10.0.0.1]/", False, True),
    # never: link-local, metadata, reserved, multicast, tunnels
    ("https://169.254.169.254/latest/meta-data/", False, False),
    ("https://[::ffff:169.254.169.254]/", False, False),
    ("https://[64:ff9b::a9fe:a9fe]/", False, False),
    ("https://[fe80::1]/", False, False),
    ("https://[fe80::1%25eth0]/", False, False),
    ("https://224.0.0.1/", False, False),
    ("https://255.255.255.255/", False, False),
    ("https://240.0.0.1/", False, False),
    ("https://198.18.0.1/", False, False),
    ("https://192.0.2.1/", False, False),
    ("https://192.88.99.1/", False, False),
    ("https://[ff02::1]/", False, False),
    ("https://[2002:7f00:1::]/", False, False),
    ("https://[2001::1]/", False, False),
    ("https://[::127.0.0.1]/", False, False),
    ("https://[64:ff9b:1::1]/", False, False),
    ("https://[fec0::1]/", False, False),
    ("https://[2001:db8::1]/", False, False),
]


def passes(policy: TargetPolicy, url: str) -> bool:
    refusal = ""
    try:
        policy.check_url(url)
    except TargetRefused as refused:
        refusal = str(refused)
    assert "\n" not in refusal
    assert len(refusal) < 120
    return not refusal


@pytest.mark.parametrize(("url", "public", "private"), URLS, ids=[repr(url) for url, *_ in URLS])
def test_the_table(url: str, public: bool, private: bool) -> None:
    assert (passes(PUBLIC, url), passes(PRIVATE, url)) == (public, private)


@given(st.text(max_size=60))
def test_any_text_passes_or_is_refused_by_name(text: str) -> None:
    passes(PUBLIC, text)
    passes(PUBLIC, f"https://{text}/")
    passes(PRIVATE, f"http://{text}")


@given(st.ip_addresses(v=4))
def test_ipv6_spellings_of_an_address_are_judged_as_the_address(address: IPv4Address) -> None:
    for policy in (PUBLIC, PRIVATE):
        verdicts = {
            passes(policy, f"https://{host}/")
            for host in (
                str(address),
                f"[::ffff:{address}]",
                f"[{IPv6Address(int(IPv6Address('64:ff9b::')) | int(address))}]",
            )
        }
        assert len(verdicts) == 1


@given(st.ip_addresses())
def test_what_is_not_global_is_never_public(address: IPv4Address | IPv6Address) -> None:
    try:
        PUBLIC.check_address(str(address))
    except TargetRefused:
        return
    plain = getattr(address, "ipv4_mapped", None) or address
    assert plain.is_global
    assert not plain.is_multicast


def test_one_bad_address_refuses_the_host() -> None:
    assert PUBLIC.check_addresses(["8.8.8.8", "8.8.8.8", "1.1.1.1"]) == ["8.8.8.8", "1.1.1.1"]
    for answers in (["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%eth0"], [], ["nonsense"]):
        with pytest.raises(TargetRefused):
            PUBLIC.check_addresses(answers)
