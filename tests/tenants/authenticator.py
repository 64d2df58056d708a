"""A passkey in software: what a browser and the key in it would answer."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
)

FLAG = AuthenticatorData.FLAG


class Passkey:
    """One discoverable credential for one user of one site."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.site_hash = hashlib.sha256(origin.partition("://")[2].encode()).digest()
        self.id = secrets.token_bytes(16)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.user_handle = ""

    def register(self, options: dict[str, Any]) -> str:
        """The answer to `navigator.credentials.create(options)`, as JSON."""
        self.user_handle = options["publicKey"]["user"]["id"]
        credential = AttestedCredentialData.create(
            Aaguid.NONE, self.id, ES256.from_cryptography_key(self.key.public_key())
        )
        flags = FLAG.UP | FLAG.UV | FLAG.AT
        data = AuthenticatorData.create(self.site_hash, flags, 0, credential)
        return self._answer(
            clientDataJSON=self._client_data("create", options),
            attestationObject=AttestationObject.create("none", data, {}),
        )

    def sign_in(self, options: dict[str, Any]) -> str:
        """The answer to `navigator.credentials.get(options)`, as JSON."""
        data = AuthenticatorData.create(self.site_hash, FLAG.UP | FLAG.UV, 1)
        client_data = self._client_data("get", options)
        signed = self.key.sign(
            data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256())
        )
        return self._answer(
            clientDataJSON=client_data,
            authenticatorData=data,
            signature=signed,
            userHandle=self.user_handle,
        )

    def _client_data(self, act: str, options: dict[str, Any]) -> bytes:
        challenge = options["publicKey"]["challenge"]
        said = {"type": f"webauthn.{act}", "challenge": challenge, "origin": self.origin}
        return json.dumps(said).encode()

    def _answer(self, **response: Any) -> str:
        texts = {
            name: value if isinstance(value, str) else websafe_encode(bytes(value))
            for name, value in response.items()
        }
        identity = websafe_encode(self.id)
        return json.dumps(
            {
                "id": identity,
                "rawId": identity,
                "type": "public-key",
                "response": texts,
                "clientExtensionResults": {"credProps": {"rk": True}},
            }
        )
