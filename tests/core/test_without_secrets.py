"""No password and no key is left in an address that is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.without_secrets import entries_without_secrets, without_secrets


@pytest.mark.parametrize(
    "address",
    [
        "/var/hl/data", "node1.example.org:50052", "[::1]:50052", "simulator:", "",
        "wss://api.hyperliquid.xyz/ws", "http://127.0.0.1:3001/info", "/data/at@home",
        "node:///hl/data?info=http://127.0.0.1:3001&chain=testnet&weight=3",
        "gateway://node1:50052?tls_ca=/etc/ca.pem&region=tokyo",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(address: str) -> None:
    assert without_secrets(address) == address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("wss://ada:pw@host/ws", "wss://…@host/ws"),
        ("wss://host/KEY/ws", "wss://host/…/ws"),
        ("wss://host/ws?token=KEY", "wss://host/ws?token=…"),
        ("wss://host/ws?KEY", "wss://host/ws?…"),
        ("node:///d?info=http://u:KEY@h/KEY", "node:///d?info=http://…@h/…"),
        ("http://[bad/KEY", "http://…"),
        ("ada:pw@host:50052", "…@host:50052"),
    ],
)
def test_what_may_be_one_is_not(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


secret = st.text("abcdefghijk0123456789", min_size=12, max_size=20).map("SECRET".__add__)


@given(
    secret=secret,
    form=st.sampled_from([
        "{0}://user:{1}@host/ws", "{0}://{1}@host:8/ws", "{0}://host/{1}", "{0}://host/ws/{1}/x",
        "{0}://host/ws?key={1}", "{0}://host/ws?{1}", "{0}://host?info=https://h/{1}",
        "{0}://host?info=https://{1}@h", "{0}://host?info={1}", "user:{1}@host:50052",
    ]),
    scheme=st.sampled_from(["ws", "wss", "http", "https", "gateway", "htp"]),
)  # fmt: skip
def test_a_secret_is_never_shown(secret: str, form: str, scheme: str) -> None:
    entry = form.format(scheme, secret)
    assert secret not in without_secrets(entry)
    assert secret not in entries_without_secrets(f"node:///data, {entry}")
