"""Two nodes of one chain, each with its own faults: a pristine simulator, and a feeder per node."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.parts import Part
from tests.support.pristine import Pristine

ORDER_DEADLINE_S = 5.0
FIRST_BLOCKS_DEADLINE_S = 30.0


@dataclass(slots=True)
class Node:
    """One feeder process: its data directory, its /info, and the faults it obeys."""

    name: str
    directory: Path
    part: Part
    port: int

    @property
    def info_url(self) -> str:
        """Base URL of the node's own HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def upstream(self) -> str:
        """Its entry in RELAY_UPSTREAMS, read from its files."""
        return f"node://{self.directory}?info={self.info_url}"

    def order(self, do: str, **fields: Any) -> dict[str, Any]:
        """Give one order (see `node_feeder`) and return the node's state after it."""
        request = urllib.request.Request(  # noqa: S310 - our own port
            f"{self.info_url}/control", data=json.dumps({"do": do, **fields}).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=ORDER_DEADLINE_S) as answer:  # noqa: S310
                state: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from None
        return state

    @property
    def written(self) -> int:
        """The last height on its disk."""
        return int(self.order("state")["written"])


@dataclass(slots=True)
class NodePair:
    """A chain that runs, and nodes `A`, `B`, … of it. Equal seeds make equal chains."""

    var: Path
    seed: int = 1
    coins: int = 4
    nodes: int = 2
    activity: float = 1.0
    on_restart: str = "catch-up"
    simulator: Part = field(init=False)
    all: list[Node] = field(init=False)
    pristine: Pristine = field(init=False)

    def start(self) -> None:
        """Returns when every node has blocks on its disk."""
        self.var.mkdir(parents=True, exist_ok=True)
        directory, port = self.var / "pristine", Part.port()
        self.pristine = Pristine(directory)
        manage = [sys.executable, "manage.py", "run_simulator", "--dir", str(directory)]
        manage += ["--port", str(port), "--seed", str(self.seed), "--coins", str(self.coins)]
        manage += ["--keep-hours", "0", "--activity", str(self.activity)]
        self.simulator = Part("simulator", manage, var=self.var)
        self.simulator.start()
        self.simulator.wait_for(
            lambda: any(directory.glob("*/hourly/*/*")), deadline_s=FIRST_BLOCKS_DEADLINE_S
        )
        self.all = [self._feeder(name, directory, port) for name in "ABCDEFGH"[: self.nodes]]
        for node in self.all:
            node.part.start()
        for node in self.all:
            self.wait_until_written(node)

    def _feeder(self, name: str, pristine: Path, simulator_port: int) -> Node:
        port, directory = Part.port(), self.var / f"node-{name}"
        command = [sys.executable, "-m", "tests.support.node_feeder", "--pristine", str(pristine)]
        command += ["--dir", str(directory), "--port", str(port)]
        command += ["--simulator", f"http://127.0.0.1:{simulator_port}"]
        command += ["--on-restart", self.on_restart]
        return Node(name, directory, Part(f"node-{name}", command, var=self.var), port)

    def wait_until_written(self, node: Node, height: int = 1) -> None:
        """Until the node's disk holds `height`."""

        def is_written() -> bool:
            try:
                return node.written >= height
            except OSError:
                return False

        node.part.wait_for(is_written, deadline_s=FIRST_BLOCKS_DEADLINE_S)

    def __getitem__(self, number: int) -> Node:
        return self.all[number]

    def stop(self) -> None:
        """All of it."""
        for part in (*(node.part for node in self.all), self.simulator):
            part.stop()
