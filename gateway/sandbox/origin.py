"""Where the sandbox is, and what asks it.

The one address there is comes from `RELAY_SANDBOX`. Rows, upstreams and pools of addresses are of
other rooms and not within reach here, so that no action of the sandbox can get to the exchange; nor
can one of the real door get here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.exchange.asked import BadAction, read
from gateway.exchange.passage import Passage, Passed
from gateway.http.errors import HttpError
from gateway.http.routes import NODE_LOCAL
from gateway.upstreams.posts import Answer

#: The supervisor's own simulator, in the setting.
SUPERVISED = "simulator:"
#: Hosts of real exchanges, and whatever stands below them.
REAL = ("hyperliquid.xyz", "hyperliquid-testnet.xyz")
INFO_S = 5.0


def problem_of(spec: str) -> str | None:
    """What is wrong with the setting, as one line; None of a good one."""
    if spec in ("", SUPERVISED):
        return None
    try:
        url = urlsplit(spec)
        _ = url.port
    except ValueError:
        return "not a URL"
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        return f"write {SUPERVISED} or the http://host:port of a `manage.py run_simulator`"
    if is_real(spec):
        return "this is an exchange's own address; a sandbox must be a simulator's"
    return None


def is_real(url: str) -> bool:
    """Whether it is a host of a real exchange."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    return any(host == real or host.endswith(f".{real}") for real in REAL)


class Sandbox:
    """One per process. Without an address, whatever is asked raises HttpError 404."""

    def __init__(self, spec: str) -> None:
        """Raises ValueError for the address of a real exchange."""
        if problem := problem_of(spec):
            raise ValueError(f"RELAY_SANDBOX: {problem}")
        self._base = "" if spec == SUPERVISED else spec.rstrip("/")
        self._passage = Passage()

    @property
    def ws_url(self) -> str:
        """Of its WebSocket. Raises HttpError."""
        self.check()
        return "ws" + self._base.removeprefix("http") + "/ws"

    def check(self) -> None:
        """Raises HttpError 404 where there is none."""
        if not self._base:
            raise HttpError(
                404, "no_sandbox", "This relay has no sandbox (its operator sets RELAY_SANDBOX)."
            )

    async def info(self, payload: Any) -> Answer:
        """What `/info` of the simulated exchange answers. Raises HttpError."""
        self.check()
        check_read(payload)
        # As it was understood: a repeated key may be another to another parser.
        passed = await self._passage.send(
            [f"{self._base}/info"], orjson.dumps(payload), deadline_s=INFO_S
        )
        if passed.answer is None:
            text = f"The sandbox does not answer: {passed.why}. Try again."
            raise HttpError(502, "sandbox_unavailable", text)
        return passed.answer

    async def exchange(self, body: bytes) -> Passed:
        """What became of an action, which is sent once at most. Raises HttpError."""
        self.check()
        try:
            read(body)
        except BadAction as bad:
            raise HttpError(422, "bad_action", str(bad)) from bad
        return await self._passage.send([f"{self._base}/exchange"], body)

    async def close(self) -> None:
        """Close the connections."""
        await self._passage.close()


def check_read(payload: Any) -> None:
    """Raises HttpError for what is no read: it would write files where the simulator runs."""
    kind = payload.get("type") if isinstance(payload, dict) else None
    if not isinstance(kind, str):
        text = "The body must be a JSON object with a string 'type'."
        raise HttpError(422, "bad_request", text)
    if kind in NODE_LOCAL or "outPath" in payload:
        raise HttpError(403, "not_served", "That is not served here.")
