"""A WebSocket at `/sandbox/<key>/ws`: what the customer says goes to the simulated exchange's own,
and what that says comes back, in the official dialect, free of charge."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import structlog

from gateway.http import call as http
from gateway.http.edge import Note, entry_of, over_socket
from gateway.http.errors import HttpError
from gateway.http.socket import PlainSocket
from gateway.http.weights import weight_of
from gateway.sandbox import door as http_door
from gateway.sandbox.origin import Sandbox, check_read
from streaming import runtime
from streaming.core.dialects import official
from streaming.ws.close_codes import CloseCode
from tenants.admission.access import Caller
from tenants.admission.errors import Denied
from tenants.admission.principal import Principal, Scope

log = structlog.get_logger(__name__)

HANDSHAKE_WEIGHT = 1
CONNECT_S = 2.0
#: Of one tenant in one process: each has a twin at the simulator.
MAX_SOCKETS = 50
MAX_FRAME_BYTES = 16 * 1024 * 1024
#: What the customer has said and the simulator not taken.
MAX_UNSENT = 1_000


class SandboxSocket(PlainSocket):
    """One connection, and its twin at the simulator."""

    door = "sandbox"
    #: How many there are, by tenant.
    open_sockets: dict[int, int] = {}

    def __init__(self, current: runtime.Runtime, sandbox: Sandbox, *, note: Note) -> None:
        super().__init__(current, note=note)
        self._sandbox = sandbox
        self._unsent: asyncio.Queue[tuple[str, official.Request]] = asyncio.Queue(MAX_UNSENT)
        self._session: aiohttp.ClientSession | None = None
        self._twin: aiohttp.ClientWebSocketResponse | None = None
        self._counted: int | None = None

    async def admit(self, call: http.Call, caller: Caller) -> str:
        """Implements `PlainSocket`."""
        url, admission = self._sandbox.ws_url, self._runtime.admission
        call.principal, scope = await http_door.admit(
            admission, call.raw_key, caller, real=Scope.WS
        )
        await http_door.charge(admission, call.principal, HANDSHAKE_WEIGHT)
        self._count(call.principal)
        self._session = session_of_one_host()
        try:
            async with asyncio.timeout(CONNECT_S):
                self._twin = await self._session.ws_connect(url, max_msg_size=MAX_FRAME_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = f"The sandbox does not answer ({type(error).__name__}). Try again."
            raise HttpError(502, "sandbox_unavailable", text) from error
        return scope

    def _count(self, principal: Principal) -> None:
        held = self.open_sockets.get(principal.tenant_id, 0)
        if held >= MAX_SOCKETS:
            text = f"{held} sockets of yours are open in the sandbox: {MAX_SOCKETS} at one time."
            raise HttpError(429, "too_many_sockets", text, headers=[(b"retry-after", b"1")])
        self.open_sockets[principal.tenant_id] = held + 1
        self._counted = principal.tenant_id

    async def opened(self) -> None:
        """Implements `PlainSocket`."""
        self.begin(self._bring())
        self.begin(self._send())

    def take(self, body: bytes) -> None:
        """Implements `PlainSocket`."""
        try:
            text = body.decode()
            _check(orjson.loads(body))
        except HttpError as refused:
            self._failed(refused.code, refused.status)
            self.say(official.error(str(refused)))
        except ValueError:  # not UTF-8, not JSON
            self.say(official.error("The frame is not JSON."))
        else:
            try:
                self._unsent.put_nowait((text, official.parse(text)))
            except asyncio.QueueFull:
                self.end(CloseCode.POLICY, "too many messages")

    async def _send(self) -> None:
        assert self._twin is not None  # noqa: S101
        try:
            while True:
                text, asked = await self._unsent.get()
                if not isinstance(asked, official.Post) or await self._charged(asked):
                    await self._twin.send_str(text)
        except (ConnectionError, aiohttp.ClientError):
            self.end(CloseCode.GOING_AWAY, "the sandbox is gone: connect again")

    async def _charged(self, post: official.Post) -> bool:
        """Spend for a post what it takes over HTTP; the customer hears of it where that is gone."""
        weight = 1 if post.kind == "action" else weight_of(post.payload)
        try:
            await http_door.charge(self._runtime.admission, self.principal, weight)
        except Denied as denied:
            self._failed(denied.code, denied.http_status)
            told = orjson.dumps(str(denied))
            self.say(official.post_answer(post.post_id, "error", told))
            return False
        return True

    def _failed(self, code: str, status: int) -> None:
        """A record, as of what fails over HTTP."""
        call = over_socket(self.door, self.principal)
        self._note(entry_of(call, status=status, code=code))

    async def _bring(self) -> None:
        assert self._twin is not None  # noqa: S101
        async for message in self._twin:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.say(message.data.encode())
        self.end(CloseCode.GOING_AWAY, "the sandbox ended the connection: connect again")

    def stopped(self) -> None:
        """Implements `PlainSocket`."""
        if self._counted is not None:
            left = self.open_sockets[self._counted] - 1
            if left:
                self.open_sockets[self._counted] = left
            else:
                del self.open_sockets[self._counted]
            self._counted = None
        if self._session is not None:
            session, self._session = self._session, None
            closing = asyncio.ensure_future(session.close())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


#: What is being closed; nobody else holds it.
_closing: set[asyncio.Future[None]] = set()


def session_of_one_host() -> aiohttp.ClientSession:
    """One that goes where it is told and nowhere else: a handshake that is sent on to another host,
    the exchange's say, fails, which aiohttp would follow."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_redirected)
    return aiohttp.ClientSession(trace_configs=[tracing])


async def _redirected(*_: object) -> None:
    raise aiohttp.ClientError("the sandbox sends elsewhere")


def _check(frame: Any) -> None:
    """Raises HttpError for a post of what is not served here."""
    if isinstance(frame, dict) and frame.get("method") == "post":
        request = frame.get("request")
        if isinstance(request, dict) and request.get("type") != "action":
            check_read(request.get("payload"))
