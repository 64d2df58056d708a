"""Publisher → Redis → a server → the load client: nothing is lost or doubled on the way."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import build, load, machine, private_redis
from tests.bench.processes import Failed, Family
from tests.bench.subjects import SUBJECTS
from tests.bench.subjects.contract import NotHere, Stage

CLIENTS, MESSAGES, RATE = 20, 300, 400


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("bench")
    with Family(folder) as family:
        try:
            port = private_redis.start(family, core=machine.cores().load, folder=folder)
        except Failed as missing:
            pytest.skip(str(missing))
        yield Stage(
            family=family,
            redis_port=port,
            cores=machine.cores(),
            folder=folder,
            temporary=folder,
        )


@pytest.mark.parametrize("name", ["c-loop", "channels", "uvicorn", "uwebsockets"])
def test_every_client_gets_every_message_once(stage: Stage, name: str, tmp_path: Path) -> None:
    client = load.LoadClient(build.compiled(build.LOAD_CLIENT, stage.folder))
    with Family(tmp_path) as family:
        own = Stage(
            family=family,
            redis_port=stage.redis_port,
            cores=stage.cores,
            folder=stage.folder,
            temporary=tmp_path,
        )
        try:
            running = SUBJECTS[name].start(own)
        except NotHere as missing:
            pytest.skip(str(missing))
        # Channels drops what exceeds a consumer's 100 unread messages: within that it must deliver.
        messages = 80 if name == "channels" else MESSAGES
        numbers = ["--connections", str(CLIENTS), "--expect", str(messages * CLIENTS)]
        timing = ["--warmup", "0", "--seconds", "0.1", "--grace", "20"]
        loading = client.start("fanout", stage=own, running=running, options=[*numbers, *timing])
        assert loading.line(timeout_s=20) == "ready"
        publish = ["--form", running.form, "--rate", str(RATE), "--messages", str(messages)]
        family.start(
            [
                *(sys.executable, "-m", "tests.bench.publisher", *publish, "--size", "1600"),
                *("--redis-port", str(stage.redis_port)),
            ],
            name="publisher",
            core=stage.cores.load,
            cwd=machine.ROOT,
        )
        result = load.result_of(loading.line(timeout_s=40))

    assert result.total_frames == messages * CLIENTS
    assert result.disordered == 0
    assert result.unstamped == 0
