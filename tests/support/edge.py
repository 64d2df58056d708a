"""One real edge process (`manage.py run_daphne`) on a real Redis, with a worker's end of the bus in
the test's hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from websockets.sync.client import ClientConnection, connect

from relay_site.processes import free_port
from streaming.bus import keys
from streaming.core import envelope as wire
from streaming.core.envelope import BusMessage, Envelope, Position, Role
from tests.support.seeded import seed
from tests.support.services import start_process, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0


class Edge:
    """An edge with a demo tenant of its own. `publish` speaks as the upstream worker would."""

    def __init__(
        self,
        var: Path,
        *,
        redis_url: str,
        upstreams: str = "ws://127.0.0.1:9/ws",
        port: int | None = None,
        drain_s: float = 0.0,
        mute_s: float = 60.0,
        options: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
        server: str = "run_daphne",
    ) -> None:
        """`options` are of `server`, a management command, `variables` more of its environment."""
        self._options = options
        self._server = server
        self.var = var
        self.api_key = seed(var)
        self.port = port or free_port()
        self.redis = redis.Redis.from_url(redis_url)
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RELAY_", "REDIS_", "DATABASE_", "DJANGO_"))
        } | {
            "RELAY_VAR": str(var),
            "REDIS_URL": redis_url,
            "RELAY_HTTP_PORT": str(self.port),
            "RELAY_UPSTREAMS": upstreams,
            "RELAY_DRAIN_S": str(drain_s),
            "RELAY_MUTE_S": str(mute_s),
            **(variables or {}),
        }
        self.process: subprocess.Popen[bytes]

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def share(self, other: Edge) -> None:
        """Use the other's database, and so its tenant and key."""
        self._environment["RELAY_VAR"] = str(other.var)
        self.api_key = other.api_key

    def shell(self, code: str) -> str:
        """Run Python inside the edge's project settings, as an operator's process would."""
        return self.manage("shell", "--no-imports", "-c", code)

    def open_shell(self, code: str) -> subprocess.Popen[str]:
        """The same, talked to while it runs."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        """Start it; returns when it listens and its bus is connected."""
        saved = dict(os.environ)
        before = {name.decode() for name in self.redis.smembers(keys.EDGES)}
        try:
            os.environ.clear()
            os.environ.update(self._environment)
            command = [sys.executable, str(ROOT / "manage.py"), self._server, *self._options]
            self.process = start_process(command, log=self.log)
        finally:
            os.environ.clear()
            os.environ.update(saved)

        def is_up() -> bool:
            edges = {name.decode() for name in self.redis.smembers(keys.EDGES)} - before
            if len(edges) != 1:
                return False
            (self.name,) = edges
            channel = keys.BUS_CHANNEL.format(edge=self.name)
            return bool(self.redis.pubsub_numsub(channel)[0][1]) and self.get("/livez")[0] == 200

        wait_until(is_up, process=self.process, what="edge", log=self.log)

    @property
    def log(self) -> Path:
        """What the process prints."""
        return self.var / "edge.log"

    def stop(self) -> None:
        """SIGTERM."""
        self.process.terminate()
        self.process.wait(DEADLINE_S)

    # --- as a customer ---

    def connect(
        self, api_key: str | None = None, *, query: str = "", **options: Any
    ) -> ClientConnection:
        """A customer's socket."""
        url = f"ws://127.0.0.1:{self.port}/{api_key or self.api_key}/ws{query}"
        return connect(url, compression=None, max_size=None, open_timeout=DEADLINE_S, **options)

    def subscribe(self, socket: ClientConnection, **subscription: Any) -> Any:
        """Subscribe and return the first answer."""
        socket.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        return json.loads(socket.recv(DEADLINE_S))

    def get(self, path: str) -> tuple[int, bytes]:
        """GET over HTTP."""
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def info(self, body: bytes, *, api_key: str | None = None, **headers: str) -> tuple[int, bytes]:
        """POST /<key>/info."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{api_key or self.api_key}/info",
            data=body,
            headers={"content-type": "application/json", **headers},
        )
        return self._ask(request)

    def _ask(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def closed(self, code: int) -> int:
        """How many connections it has seen the end of with `code`."""
        sample = f'relay_ws_closed_total{{code="{int(code)}"}} '
        lines = self.get("/metrics")[1].decode().splitlines()
        counts = [line.removeprefix(sample) for line in lines if line.startswith(sample)]
        return round(float(counts[0])) if counts else 0

    def wait_for_close(self, code: int, *, beyond: int, deadline_s: float = DEADLINE_S) -> None:
        """Until more than so many have ended with `code`."""
        wait_until(
            lambda: self.closed(code) > beyond,
            process=self.process,
            what=f"an end with {int(code)}",
            log=self.log,
            deadline_s=deadline_s,
        )

    # --- as the worker ---

    def leases(self) -> set[str]:
        """Topics this edge asks for."""
        fields = self.redis.hkeys(keys.LEASES.format(edge=self.name))
        return {field.decode() for field in fields} - {"~"}

    def wait_for_lease(self, topic: str) -> None:
        """Until the edge leases `topic`."""
        wait_until(lambda: topic in self.leases(), process=self.process, what=topic, log=self.log)

    def publish(self, *envelopes: Envelope) -> None:
        """One bus message to this edge."""
        message = wire.encode(BusMessage(wire.VERSION, "test", list(envelopes)))
        self.redis.publish(keys.BUS_CHANNEL.format(edge=self.name), message)


def frame(
    topic: str, height: int, payload: bytes, *, role: Role = Role.UPDATE, epoch: str = "e"
) -> Envelope:
    """An envelope at `height`, right after the one before."""
    return Envelope(topic, epoch, Position(height), Position(height - 1), role, payload)
