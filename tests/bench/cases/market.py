"""The whole market: a node's line to the last customer who gets something of it, over TLS."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec

from tests.bench import machine
from tests.bench.cases.contract import OPEN_S, Bench
from tests.bench.cases.hop import start_writer, wait_for_books
from tests.bench.load import Result
from tests.bench.processes import Child, Failed
from tests.bench.report import Measurement
from tests.bench.subjects.contract import NotHere, Running, Stage, Subject
from tests.bench.subjects.relay import Relay
from tests.support.front import front
from tests.support.services import Missing, find_binary

#: Mainnet's blocks a second, and about as many coins.
OFFERED, COINS = 14, 200
#: A 99.9th percentile of blocks wants a thousand of them.
STEPS = 18
#: What 300 customers follow: how many of them, the topic, how many coins each, the dialect.
MIX = (
    (100, '{"type":"bbo","coin":"C%T"}', 10, ""),
    (80, '{"type":"l2Book","coin":"C%T"}', 3, ""),
    (60, '{"type":"trades","coin":"C%T"}', 10, ""),
    (30, '{"type":"l2Book","coin":"BTC","nLevels":100}', 1, ""),
    (30, '{"type":"bbo","coin":"C%T"}', 10, "?relay=1"),
)
CUSTOMERS = sum(customers for customers, *_ in MIX)


class Market:
    """300 mixed customers of 200 coins behind the shipped nginx; worker, edge and nginx share one
    core, the node, Redis, and the customers with the far end of their TLS the other."""

    name = "market"
    subjects: tuple[str, ...] = ("relay",)

    def measure(self, bench: Bench, subject: Subject) -> Iterator[Measurement]:
        """Quantiles over blocks of the last customer's latency; cost by customer."""
        assert isinstance(subject, Relay)
        with bench.stage() as stage, ExitStack() as stack:
            values = list(self._at(bench, subject, stage=stage, stack=stack))
        for metric, value, unit in values:
            yield Measurement(self.name, subject.name, metric, value, unit, OFFERED, CUSTOMERS)

    def _at(
        self, bench: Bench, relay: Relay, *, stage: Stage, stack: ExitStack
    ) -> Iterator[tuple[str, float, str]]:
        folder = stage.temporary / "market"
        writer = start_writer(stage, folder, offered=OFFERED, coins=COINS)
        info = f"http://127.0.0.1:{writer.line(timeout_s=15)}"
        running = relay.start(stage)
        worker = relay.start_worker(stage, upstreams=f"node://{folder}?info={info}")
        wait_for_books(bench, stage, running, worker=worker)
        tls_port, front_pid = _front(stage, stack, running)
        outside = replace(running, port=tls_port)
        clients = [
            self._follow(bench, stage, outside, customers, subscription, each=each, query=query)
            for customers, subscription, each, query in MIX
        ]
        seconds = bench.seconds * STEPS
        time.sleep(bench.warmup_s)
        pids = {"worker": worker.pid, "edge": running.pid, "nginx": front_pid}
        used_s = {name: machine.cpu_s(pid) for name, pid in pids.items()}
        from_ns = time.monotonic_ns()
        time.sleep(seconds)
        used_s = {name: machine.cpu_s(pid) - used_s[name] for name, pid in pids.items()}
        until_ns = time.monotonic_ns()
        last_ns, results = _ends(clients)
        stamps = {int(ms): ns for ms, ns in json.loads(writer.rest(timeout_s=10)[-1]).items()}
        late_ms = sorted(
            (last_ns[ms] - ns) / 1e6
            for ms, ns in stamps.items()
            if from_ns <= ns < until_ns - 1_000_000_000 and ms in last_ns
        )
        if len(late_ms) < 0.9 * OFFERED * (seconds - 1):
            raise Failed(f"{len(late_ms)} blocks reached a customer in {seconds:.0f} s")
        for metric, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)):
            yield metric, late_ms[int(share * len(late_ms))], "ms"
        open_s = seconds + bench.warmup_s
        yield "frames_per_s", sum(r.total_frames for r in results) / open_s, "1/s"
        kib_per_s = sum(r.bytes_per_s for r in results) * bench.seconds / open_s / CUSTOMERS / 1024
        yield "kib_per_s_and_customer", kib_per_s, "KiB/s"
        for name, cpu_s in used_s.items():
            yield f"{name}_cpu_percent", 100 * cpu_s / seconds, "%"
        per_customer = 1e6 * (used_s["edge"] + used_s["nginx"]) / seconds / CUSTOMERS
        yield "cpu_us_per_s_and_customer", per_customer, "µs/s"

    def _follow(
        self,
        bench: Bench,
        stage: Stage,
        running: Running,
        customers: int,
        subscription: str,
        *,
        each: int,
        query: str,
    ) -> Child:
        options = ["--connections", str(customers), "--each", str(each)]
        options += ["--seconds", str(bench.seconds)]
        if "%T" in subscription:
            options += ["--topics", str(COINS - 1)]  # the first is BTC
        client = bench.load.start(
            "last",
            stage=stage,
            running=replace(running, path=running.path + query),
            options=options,
            say=f'{{"method":"subscribe","subscription":{subscription}}}',
        )
        client.line(timeout_s=OPEN_S)
        return client


def _ends(clients: list[Child]) -> tuple[dict[int, int], list[Result]]:
    """By block time (ms) when the last customer had read (ns), and what each client counted."""
    last_ns: dict[int, int] = {}
    results = []
    for client in clients:
        *lines, result = client.rest(timeout_s=20)
        results.append(msgspec.json.decode(result, type=Result))
        for line in lines:
            ms, _, ns = line.partition(" ")
            last_ns[int(ms)] = max(last_ns.get(int(ms), 0), int(ns))
    return last_ns, results


#: The customers' end of TLS: the load client speaks plainly. `keepalive 0`: a connection each.
_FAR_END = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass https://127.0.0.1:{to};
            proxy_http_version 1.1; proxy_buffering off;
            proxy_set_header Host relay.example.com;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def _front(stage: Stage, stack: ExitStack, running: Running) -> tuple[int, int]:
    """The shipped nginx before the edge, on the server's core, and the customers' end of its TLS;
    the port of that, and the pid of nginx's worker."""
    near, far = stage.temporary / "front", stage.temporary / "far"
    near.mkdir()
    far.mkdir()
    try:
        port = stack.enter_context(front(near, backends=[running.port]))
        binary = find_binary("nginx", package="nginx")
    except Missing as missing:
        raise NotHere(str(missing)) from missing
    workers = _pin((near / "pid").read_text(), core=stage.cores.server)
    open_port = machine.free_port()
    config = far / "nginx.conf"
    config.write_text(_FAR_END.format(folder=far, port=open_port, to=port))
    argv = [binary, "-c", str(config), "-p", str(far)]
    child = stage.family.start(argv, name="far-end", core=stage.cores.load)
    child.wait_for_port(open_port)
    return open_port, workers


def _pin(master: str, *, core: int) -> int:
    """Keep nginx on one core; its worker's pid."""
    children = Path(f"/proc/{master.strip()}/task/{master.strip()}/children").read_text()
    pids = [int(pid) for pid in re.findall(r"\d+", children)]
    for pid in (int(master), *pids):
        os.sched_setaffinity(pid, {core})
    return pids[0]
