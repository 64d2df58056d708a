"""A Stripe in a box: the part of its HTTP API that we use, idempotency keys, signed webhooks, and
faults. A real server, so that the real library talks to it over a real socket.

Source: docs.stripe.com/api. What it keeps under a key is the first answer, also a 500.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SECRET_KEY = "sk_test_fakefakefakefake"
WEBHOOK_SECRET = "whsec_fakefakefakefake"

#: What may happen to the next request that would change something.
FAULTS = (
    "500 before",  # nothing done
    "500 after",  # done, and told as broken; the same again under the key
    "lost before",  # no answer, nothing done
    "lost after",  # charged, and no answer
    "429",
    "401",
    "declined",
    "authentication_required",
    "processing",
)
Json = dict[str, Any]


class FakeStripe:
    """Its state, open to tests: `intents`, `refunds`, `disputes`, `customers`, `events`."""

    def __init__(self) -> None:
        self.customers: dict[str, Json] = {}
        self.intents: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.methods: dict[str, str] = {}
        self.events: list[Json] = []
        self.faults: deque[str] = deque()
        self.seen: list[tuple[str, str]] = []
        self.keys: dict[str, tuple[str, int, Json]] = {}
        self.is_down = False
        self._number = count(1)
        self._lock = threading.RLock()
        self.base = ""

    # --- what tests do at Stripe --------------------------------------------------------------

    def leave_method(self, customer: str, method: str = "pm_card") -> None:
        """The customer leaves a card on the hosted page; empty takes it back."""
        with self._lock:
            self.methods[customer] = method
            thing = {"id": self._id("cs"), "object": "checkout.session", "customer": customer}
            self._tell("checkout.session.completed", thing)

    def finish(self, intent: str, *, succeeds: bool) -> None:
        """A charge that is under way ends."""
        with self._lock:
            self._end(self.intents[intent], "" if succeeds else "insufficient_funds")

    def send_back(self, intent: str, cents: int) -> Json:
        """A refund made on Stripe's own pages."""
        with self._lock:
            return self._refund({"payment_intent": intent, "amount": str(cents)}, "")[1]

    def fail_refund(self, refund: str) -> None:
        """The customer's bank does not take it."""
        with self._lock:
            self.refunds[refund]["status"] = "failed"
            self._tell("refund.failed", self.refunds[refund])

    def dispute(self, intent: str, cents: int | None = None) -> str:
        """The customer's bank takes the money back."""
        with self._lock:
            row = {
                "id": self._id("dp"),
                "object": "dispute",
                "payment_intent": intent,
                "amount": cents or self.intents[intent]["amount_received"],
                "currency": "usd",
                "status": "needs_response",
                "created": int(time.time()),
            }
            self.disputes[row["id"]] = row
            self._tell("charge.dispute.created", row)
            return str(row["id"])

    def change_dispute(self, dispute: str, cents: int) -> None:
        """The bank takes more of it, or less."""
        with self._lock:
            self.disputes[dispute]["amount"] = cents
            self._tell("charge.dispute.updated", self.disputes[dispute])

    def end_dispute(self, dispute: str, *, is_won: bool) -> None:
        """It is decided."""
        with self._lock:
            self.disputes[dispute]["status"] = "won" if is_won else "lost"
            self._tell("charge.dispute.closed", self.disputes[dispute])

    def tell(self, kind: str, thing: Json) -> Json:
        """An event about anything."""
        with self._lock:
            return self._tell(kind, thing)

    def taken(self) -> int:
        """Cents that it took and did not give back."""
        with self._lock:
            took = sum(row["amount_received"] for row in self.intents.values())
            back = sum(r["amount"] for r in self.refunds.values() if r["status"] == "succeeded")
            gone = sum(r["amount"] for r in self.disputes.values() if r["status"] != "won")
            return int(took - back - gone)

    @staticmethod
    def body(event: Json) -> bytes:
        """As it is sent."""
        return json.dumps(event, indent=2).encode()

    @staticmethod
    def signature(body: bytes, *, secret: str = WEBHOOK_SECRET, at: int | None = None) -> str:
        """The value of `Stripe-Signature`."""
        at = int(time.time()) if at is None else at
        digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return f"t={at},v1={digest}"

    # --- its API --------------------------------------------------------------------------------

    def answer(self, method: str, path: str, form: dict[str, str], key: str) -> tuple[int, Json]:
        """Status and body of a request. Status 0: the connection is closed without an answer."""
        with self._lock:
            self.seen.append((method, path))
            if self.is_down:
                return 0, {}
            makes = method == "POST" and not path.endswith("/cancel")
            fault = self.faults.popleft() if makes and self.faults else ""
            if fault == "lost before":
                return 0, {}
            if fault == "429":
                return 429, _error("rate_limit", kind="invalid_request_error")
            if fault == "401":
                return 401, _error("", f"Invalid API Key provided: {SECRET_KEY}")
            content = json.dumps([path, form], sort_keys=True)
            if key and key in self.keys:
                kept, status, body = self.keys[key]
                if kept != content:
                    return 400, _error("idempotency", kind="idempotency_error")
                return status, body
            if fault == "500 before":
                status, body = 500, _error("broken", kind="api_error")
            else:
                status, body = self._do(method, path, form, fault)
                if fault == "500 after":
                    status, body = 500, _error("broken", kind="api_error")
            if key:
                self.keys[key] = (content, status, json.loads(json.dumps(body)))
            return (0, {}) if fault == "lost after" else (status, body)

    def _do(self, method: str, path: str, form: dict[str, str], fault: str) -> tuple[int, Json]:
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["customers"]:
                row = {"id": self._id("cus"), "object": "customer", "invoice_settings": {}}
                self.customers[row["id"]] = row
                return 200, row
            case "GET", ["customers", name]:
                return (200, self.customers[name]) if name in self.customers else _missing(name)
            case "POST", ["checkout", "sessions"]:
                name = self._id("cs")
                return 200, {"id": name, "url": f"{self.base}/pay/{name}"}
            case "GET", ["payment_methods"]:
                left = self.methods.get(form["customer"])
                return 200, _list([{"id": left, "object": "payment_method"}] if left else [])
            case "POST", ["payment_intents"]:
                return self._intend(form, fault)
            case "GET", ["payment_intents"]:
                mine = [r for r in self.intents.values() if r["customer"] == form["customer"]]
                since = int(form.get("created[gte]", 0))
                return 200, _list([r for r in reversed(mine) if r["created"] >= since])
            case "GET", ["payment_intents", name]:
                return (200, self.intents[name]) if name in self.intents else _missing(name)
            case "POST", ["payment_intents", name, "cancel"]:
                intent = self.intents[name]
                if intent["status"] in {"succeeded", "processing", "canceled"}:
                    return 400, _error("payment_intent_unexpected_state")
                intent["status"] = "canceled"
                self._tell("payment_intent.canceled", intent)
                return 200, intent
            case "POST", ["refunds"]:
                return self._refund(form, fault)
            case "GET", ["refunds" | "disputes" as what]:
                rows = (self.refunds if what == "refunds" else self.disputes).values()
                name = form["payment_intent"]
                return 200, _list([row for row in rows if row["payment_intent"] == name])
        return 404, _error("no_such_path", path)

    def _intend(self, form: dict[str, str], fault: str) -> tuple[int, Json]:
        intent = {
            "id": self._id("pi"),
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "customer": form["customer"],
            "created": int(time.time()),
            "status": "processing",
            "metadata": _part(form, "metadata"),
            "last_payment_error": None,
        }
        self.intents[intent["id"]] = intent
        self._tell("payment_intent.created", intent)
        if fault == "processing":
            self._tell("payment_intent.processing", intent)
            return 200, intent
        code = fault if fault in {"declined", "authentication_required"} else ""
        code = "insufficient_funds" if code == "declined" else code
        self._end(intent, code)
        if not code:
            return 200, intent
        error = _error("card_declined", "Your card was declined.", kind="card_error")
        error["error"] |= {"payment_intent": dict(intent), "decline_code": code}
        return 402, error

    def _end(self, intent: Json, code: str) -> None:
        if code:
            intent["status"] = "requires_payment_method"
            intent["last_payment_error"] = {"code": "card_declined", "decline_code": code}
            self._tell("payment_intent.payment_failed", intent)
        else:
            intent["status"], intent["amount_received"] = "succeeded", intent["amount"]
            self._tell("payment_intent.succeeded", intent)

    def _refund(self, form: dict[str, str], fault: str) -> tuple[int, Json]:
        intent = self.intents[form["payment_intent"]]
        mine = [r for r in self.refunds.values() if r["payment_intent"] == intent["id"]]
        left = intent["amount_received"] - sum(r["amount"] for r in mine)
        if int(form["amount"]) > left:
            return 400, _error("amount_too_large", "Refund amount is greater than what is left")
        row = {
            "id": self._id("re"),
            "object": "refund",
            "payment_intent": intent["id"],
            "amount": int(form["amount"]),
            "currency": "usd",
            "status": "succeeded",
            "created": int(time.time()),
            "metadata": _part(form, "metadata"),
        }
        self.refunds[row["id"]] = row
        self._tell("refund.created", row)
        return 200, row

    def _tell(self, kind: str, thing: Json) -> Json:
        event = {
            "id": self._id("evt"),
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "data": {"object": json.loads(json.dumps(thing))},
        }
        self.events.append(event)
        return event

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._number):06d}"


@contextmanager
def running() -> Iterator[FakeStripe]:
    """The fake, on a free port of loopback: `base` is its address."""
    fake = FakeStripe()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length).decode() if length else url.query
            is_known = self.headers.get("Authorization") == f"Bearer {SECRET_KEY}"
            status, body = 401, _error("", "Invalid API Key provided")
            if is_known:
                key = self.headers.get("Idempotency-Key", "") if self.command == "POST" else ""
                status, body = fake.answer(self.command, url.path, dict(parse_qsl(text)), key)
            if not status:
                self.close_connection = True
                self.connection.close()
                return
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A connection that we closed on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    fake.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _list(rows: list[Json]) -> Json:
    return {"object": "list", "data": rows, "has_more": False}


def _error(code: str, message: str = "", *, kind: str = "invalid_request_error") -> Json:
    return {"error": {"type": kind, "code": code, "message": message}}


def _missing(name: str) -> tuple[int, Json]:
    return 404, _error("resource_missing", f"No such thing: {name}")


def _part(form: dict[str, str], name: str) -> Json:
    found = ((re.fullmatch(rf"{name}\[(\w+)\]", key), value) for key, value in form.items())
    return {match[1]: value for match, value in found if match}
