"""A relay as it runs in production, small, on this machine, every part its own process:

simulator → feeders (nodes A, B) → [HL Gateways] → workers → Redis → edges → [proxy] → probes
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from streaming.bus import keys
from tests.support.chaosproxy import ChaosProxy
from tests.support.front import front
from tests.support.nodes import Node, NodePair
from tests.support.oracle import Verdict, judge
from tests.support.parts import ROOT, Part
from tests.support.probe import Mode, Probe, Probes
from tests.support.seeded import seed
from tests.support.services import Service, start_redis

#: Everything together on two busy cores.
START_DEADLINE_S = 60.0
#: All that is in the files must be with every customer within this, once nothing is broken.
SETTLE_DEADLINE_S = 20.0
BLOCK_S = 0.07
#: What an edge takes to let its customers go.
DRAIN_S = 1.5


def gateways_exist() -> bool:
    """Whether this relay has an HL Gateway."""
    return (ROOT / "streaming/management/commands/run_hl_gateway.py").exists()


@dataclass(frozen=True, slots=True)
class Topology:
    """How many of what. `gateways` None: wherever the relay has them."""

    nodes: int = 2
    gateways: bool | None = None
    workers: int = 2
    edges: int = 1
    coins: int = 4
    seed: int = 1
    activity: float = 1.0

    @property
    def has_gateways(self) -> bool:
        """Whether workers read nodes through gateways."""
        return gateways_exist() if self.gateways is None else self.gateways


class Rig:
    """All of it under `var`. `start` returns once trades reach a customer."""

    def __init__(self, var: Path, topology: Topology | None = None) -> None:
        self.var = var
        self.topology = topology or Topology()
        self.pair = NodePair(
            var / "nodes",
            seed=self.topology.seed,
            coins=self.topology.coins,
            nodes=self.topology.nodes,
            activity=self.topology.activity,
        )
        self.bus: Service
        self.redis: redis.Redis
        self.gateways: list[Part] = []
        self.workers: list[Part] = []
        self.proxies: list[ChaosProxy] = []  # one before each gateway
        self.edges: list[Part] = []
        self.edge_ports: list[int] = []
        self.api_key = ""
        self._front_port = 0
        self.probes = Probes()
        #: Trades that a node was made to lie about: what customers get of them is not judged.
        self.lies: set[str] = set()
        self._entered = contextlib.ExitStack()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything. Raises RuntimeError with the log of the part that failed."""
        self.var.mkdir(parents=True, exist_ok=True)
        self._entered.enter_context(self.probes)
        self.bus = start_redis(self.var / "redis")
        self._entered.callback(self.bus.stop)
        self.redis = redis.Redis.from_url(self.bus.url, socket_timeout=5.0)
        self._entered.callback(self.pair.stop)
        self.pair.start()
        self.api_key = seed(self.var / "relay")
        for number, node in enumerate(self.pair.all):
            if self.topology.has_gateways:
                self._add_gateway(number, node)
        for number in range(self.topology.workers):
            self._add(self.workers, f"worker-{number}", "run_upstream")
        for number in range(self.topology.edges):
            port = Part.port()
            self.edge_ports.append(port)
            self._add(self.edges, f"edge-{number}", "run_daphne", "--port", str(port))
        self.wait_until_serving()

    def stop(self) -> None:
        """Stop everything; what was written stays under `var`."""
        parts = [*self.edges, *self.workers, *self.gateways]
        for part in parts:
            with contextlib.suppress(ProcessLookupError):
                part.kill()
        self._entered.close()

    def __enter__(self) -> Rig:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _add(self, parts: list[Part], name: str, *command: str) -> None:
        manage = [sys.executable, "manage.py", *command]
        part = Part(name, manage, var=self.var / "logs", environment=self._environment())
        parts.append(part)
        part.start()

    def _add_gateway(self, number: int, node: Node) -> None:
        port = Part.port()
        self._add(
            self.gateways,
            f"gateway-{number}",
            "run_hl_gateway",
            "--data",
            str(node.directory),
            "--info",
            node.info_url,
            "--listen",
            f"127.0.0.1:{port}",
        )
        self.proxies.append(self._entered.enter_context(ChaosProxy(port)))

    def _environment(self) -> dict[str, str]:
        if self.topology.has_gateways:
            upstreams = [f"gateway://127.0.0.1:{proxy.port}" for proxy in self.proxies]
        else:
            upstreams = [node.upstream for node in self.pair.all]
        return {
            "RELAY_VAR": str(self.var / "relay"),
            "REDIS_URL": self.bus.url,
            "RELAY_UPSTREAMS": ",".join(upstreams),
            "RELAY_DRAIN_S": str(DRAIN_S),
        }

    def _manage(self, *command: str, environment: dict[str, str]) -> str:
        """Run a management command; returns the last line it printed."""
        manage = [sys.executable, "manage.py", *command]
        part = Part(command[0], manage, var=self.var / "logs", environment=environment)
        part.start()
        failed, output = part.process.wait(START_DEADLINE_S), part.output.strip()
        # It may hold a key, of a tenant of this folder only; and the folder goes with the run.
        part.log.unlink()
        if failed:
            raise RuntimeError(output[-3_000:])
        return output.splitlines()[-1] if output else ""

    def shell(self, code: str) -> str:
        """Run Python as an operator's process would; returns the last line it printed."""
        return self._manage("shell", "--no-imports", "-c", code, environment=self._environment())

    def wait_until_serving(self) -> None:
        """Until every edge delivers trades."""

        def serves(number: int) -> bool:
            for part in (*self.gateways, *self.workers):
                if not part.is_running:
                    raise RuntimeError(f"{part.name} died:\n{part.output[-3_000:]}")
            return self._serves(number)

        for number, edge in enumerate(self.edges):
            edge.wait_for(lambda n=number: serves(n), deadline_s=START_DEADLINE_S)

    def _serves(self, edge: int) -> bool:
        probe = self.follow(["BTC"], edge=edge)
        began_s = time.monotonic()
        while time.monotonic() - began_s < 2.0:
            if probe.trades["BTC"]:
                break
            if probe.closes:
                time.sleep(0.1)
                break
            time.sleep(0.02)
        self.leave(probe)
        return bool(probe.trades["BTC"])

    # --- customers --------------------------------------------------------------------------------

    def url(
        self,
        *,
        edge: int | None = 0,
        relay: bool = False,
        port: int | None = None,
        api_key: str = "",
    ) -> str:
        """A customer's address, by default with the demo tenant's key; `port` is a proxy's in
        between. Without an edge it is the front's, who chooses one."""
        path = f"/{api_key or self.api_key}/ws{'?relay=1' if relay else ''}"
        if edge is None:
            return f"wss://127.0.0.1:{self.front_port}{path}"
        return f"ws://127.0.0.1:{port or self.edge_ports[edge]}{path}"

    @property
    def front_port(self) -> int:
        """Where nginx, as shipped, stands before all edges; started when first asked for. Raises
        Missing."""
        if not self._front_port:
            folder = self.var / "front"
            folder.mkdir()
            entered = front(folder, backends=self.edge_ports)
            self._front_port = self._entered.enter_context(entered)
        return self._front_port

    def follow(
        self,
        coins: Sequence[str],
        *also: dict[str, Any],
        edge: int | None = 0,
        relay: bool = False,
        port: int | None = None,
        api_key: str = "",
        mode: Mode = Mode.NORMAL,
        options: dict[str, Any] | None = None,
    ) -> Probe:
        """A customer who follows the trades of `coins`, each by a subscription of its own, and
        `also` what nobody judges."""
        subscriptions = [{"type": "trades", "coin": coin} for coin in coins]
        url = self.url(edge=edge, relay=relay, port=port, api_key=api_key)
        return self.probes.start(url, *subscriptions, *also, mode=mode, options=options)

    def wait_for_first_frames(self, probes: Sequence[Probe]) -> None:
        """Until each has had the first frame of every coin it follows."""
        self.probes.wait_for(
            lambda: all(probe.trades[coin] for probe in probes for coin in probe.coins),
            what="first frames",
        )

    def leave(self, *probes: Probe) -> None:
        """Disconnect these; what they got stays."""
        for probe in probes:
            self.probes.stop(probe)
            if probe in self.probes.all:
                self.probes.all.remove(probe)

    @property
    def coins(self) -> list[str]:
        """The coins that trade, busiest first, that everything is judged by."""
        self.pair.pristine.refresh()
        trades = self.pair.pristine.trades
        return sorted(trades, key=lambda coin: -len(trades[coin]))[: self.topology.coins]

    # --- truth ------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """The newest height of the chain."""
        self.pair.pristine.refresh()
        return self.pair.pristine.height

    def made_ns(self, height: int) -> int:
        """When the chain wrote `height` (wall clock, ns)."""
        self.pair.pristine.refresh()
        return self.pair.pristine.made_ns[height]

    def wait_blocks(self, count: int, *, deadline_s: float = 30.0) -> int:
        """Until the chain is `count` blocks further; returns the height."""
        end = self.height + count
        self.probes.wait_for(
            lambda: self.height >= end, what=f"{count} blocks", deadline_s=deadline_s
        )
        return end

    def settle(self, probes: Sequence[Probe], *, until: int | None = None) -> int:
        """Until each probe has got an event at or behind `until` (now) of every coin it follows;
        returns `until`. Raises TimeoutError."""
        until = until or self.height
        keys_until: dict[str, set[str]] = {}

        def has_passed(probe: Probe, coin: str) -> bool:
            got = probe.trades[coin]
            return any(getattr(r, "key", "") in keys_until[coin] for r in reversed(got))

        def is_settled() -> bool:
            self.pair.pristine.refresh()
            for coin in {coin for probe in probes for coin in probe.coins}:
                events = self.pair.pristine.trades[coin]
                keys_until[coin] = {e.key for e in events if e.height >= until}
            return all(has_passed(probe, coin) for probe in probes for coin in probe.coins)

        self.probes.wait_for(
            is_settled, what="what is in the files, at every customer", deadline_s=SETTLE_DEADLINE_S
        )
        return until

    def judge(
        self, probe: Probe, *, until: int, lost: Sequence[tuple[int, int]] = ()
    ) -> dict[str, Verdict]:
        """The oracle's word on each coin the probe follows."""
        # What the customer has got was written before: in the other order a block between the two
        # looks is one that nobody made.
        gots = {coin: list(probe.trades[coin]) for coin in probe.coins}
        self.pair.pristine.refresh()
        verdicts = {}
        for coin, got in gots.items():
            expected = self.pair.pristine.trades[coin]
            verdict = judge(expected, got, until=until, lost=lost)
            verdict.corrupted = [key for key in verdict.corrupted if key not in self.lies]
            verdicts[coin] = verdict
        return verdicts

    # --- what the relay says of itself ------------------------------------------------------------

    def worker_states(self) -> list[dict[str, Any]]:
        """The heartbeats of the workers that live."""
        names = [name for part in self.workers if (name := self.worker_name(part))]
        return [state for name in names if (state := self.heartbeat(name)) is not None]

    def is_whole(self, *, since_s: float = 0.0) -> bool:
        """Whether every worker lives and reads every node, none of them marked, and has said so
        after `since_s` (since 1970)."""
        names = [self.worker_name(part) for part in self.workers]
        states = [self.heartbeat(name) if name else None for name in names]
        return all(
            state is not None
            and state["at_s"] > since_s
            and sum(_is_read(s) for s in state["sources"].values()) >= len(self.pair.all)
            and state["nodes"]["books_ready"]
            and not any(self.marks(state).values())
            for state in states
        )

    def worker_name(self, part: Part) -> str | None:
        """What the process that runs now calls itself; None before it has said so."""
        if not part.is_running:
            return None
        # A killed worker's heartbeat lives on for seconds: only its name tells it from a new one's.
        said = part.output[part.begins_at :]
        found = re.search(r"upstream worker (\w+) reads", said)
        return found[1] if found else None

    def heartbeat(self, name: str) -> dict[str, Any] | None:
        """The last heartbeat of the worker called `name`, while it counts."""
        text = self.redis.get(keys.WORKER.format(worker=name))
        return json.loads(text) if text else None

    @staticmethod
    def marks(state: dict[str, Any]) -> dict[str, list[str]]:
        """What one worker holds against each node, by its name, but for a difference it has seen:
        that mark stays for a minute."""
        return {
            name: [mark for mark in source["marks"] if mark != "disagreeing"]
            for name, source in state["sources"].items()
            if "marks" in source
        }

    def make_whole(self) -> None:
        """Start what died, and wait until everything is as it was."""
        parts = [node.part for node in self.pair.all]
        for part in (*parts, *self.gateways, *self.workers, *self.edges):
            if part.is_running:
                part.thaw()
            else:
                part.start()
        # What was said before tells nothing: a gateway that is started again serves after 2 s, and
        # until then the next fault would be a second one.
        begun_s = time.time()
        until_true(
            lambda: (
                self.is_whole(since_s=begun_s)
                and all(self.get("/livez", edge=n) == 200 for n in range(len(self.edges)))
            ),
            what="a whole relay again",
            deadline_s=START_DEADLINE_S,
        )

    def bring_redis_back(self) -> None:
        """Start Redis, which was stopped, at the same address and with nothing in it."""
        port = int(self.bus.url.rpartition(":")[2].partition("/")[0])
        self.bus = start_redis(self.var / "redis", port=port)
        self._entered.callback(self.bus.stop)

    def closed(self, code: int, *, edge: int) -> int:
        """How many connections an edge has closed with `code`, by its own count."""
        sample = f'relay_ws_closed_total{{code="{code}"}} '
        url = f"http://127.0.0.1:{self.edge_ports[edge]}/metrics"
        with urllib.request.urlopen(url, timeout=5.0) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line.removeprefix(sample) for line in lines if line.startswith(sample)]
        return round(float(counts[0])) if counts else 0

    def get(self, path: str, *, edge: int = 0) -> int:
        """Status of GET at an edge; 0 when it does not answer."""
        try:
            url = f"http://127.0.0.1:{self.edge_ports[edge]}{path}"
            with urllib.request.urlopen(url, timeout=5.0) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def _is_read(source: dict[str, Any]) -> bool:
    return source["kind"] == "node" and source.get("connected", True)


def until_true(is_true: Callable[[], bool], *, what: str, deadline_s: float) -> float:
    """Seconds until `is_true`. Raises TimeoutError."""
    began_s = time.monotonic()
    while not is_true():
        if time.monotonic() - began_s > deadline_s:
            raise TimeoutError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.01)
    return time.monotonic() - began_s


def clean(var: Path) -> Path:
    """`var`, empty."""
    shutil.rmtree(var, ignore_errors=True)
    return var
