"""The operator's list changes while the worker runs: only what changed is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from django.db import InterfaceError, OperationalError

from streaming.core.envelope import Envelope, Role
from streaming.core.topic import Kind, Topic
from streaming.nodes.follow import NothingKnown, Rows, Specs
from streaming.upstream.build import Upstreams
from streaming.upstream.sources.public import PublicSource
from streaming.upstream.spec import UpstreamSpec, named, parse_upstreams
from tests.core.node_events import fill, line
from tests.streaming.node_lines import BY_BLOCK, FILLS, NodeDirectory

DEADLINE_S = 10.0
TRADES = Topic(Kind.TRADES, "BTC")


def specs(**folders: Path) -> dict[str, UpstreamSpec]:
    return {
        name: spec
        for name, folder in folders.items()
        for spec in parse_upstreams(f"node://{folder}")
    }


class Taken:
    """What was published, as heights."""

    def __init__(self) -> None:
        self.heights: list[int] = []
        self.came = asyncio.Event()

    def __call__(self, envelopes: Iterable[Envelope]) -> None:
        self.heights += [e.position.height for e in envelopes if e.role is Role.UPDATE]
        self.came.set()

    async def reach(self, height: int, node: NodeDirectory, write_from: int) -> None:
        """Write blocks to `node` until one at or above `height` was published."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.heights or self.heights[-1] < height:
                self.came.clear()
                trade(node, write_from)
                write_from += 1
                try:
                    async with asyncio.timeout(0.1):
                        await self.came.wait()
                except TimeoutError:
                    continue


def trade(node: NodeDirectory, height: int) -> None:
    sides = [fill(height, "A", crossed=True), fill(height, "B")]
    node.write(FILLS, BY_BLOCK, line(height, sides) + b"\n")


async def test_a_node_is_exchanged_for_another_under_the_same_name(tmp_path: Path) -> None:
    first, second = NodeDirectory(tmp_path / "first"), NodeDirectory(tmp_path / "second")
    for node in (first, second):
        node.root.mkdir()
    upstreams = Upstreams(specs(one=first.root), scratch=tmp_path / "scratch")
    upstreams.nodes.want(TRADES)
    taken = Taken()
    task = asyncio.ensure_future(upstreams.nodes.run(taken))
    try:
        await taken.reach(100, first, 100)
        assert not upstreams.use(specs(one=second.root, two=first.root))
        states = upstreams.nodes.states()
        assert states["one"]["address"] == str(second.root)
        assert states["two"]["address"] == str(first.root)
        await taken.reach(600, second, 600)
        upstreams.use(specs(one=second.root))
        assert set(upstreams.nodes.states()) == {"one"}
        upstreams.use({})
        assert not upstreams.nodes.serves(TRADES)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert taken.heights == sorted(set(taken.heights))


def test_labels_cut_nothing_and_the_allowance_outlives_what_does(tmp_path: Path) -> None:
    def read(weight: int, region: str, port: int) -> dict[str, UpstreamSpec]:
        return named(
            parse_upstreams(
                f"gateway://h:1?weight={weight},wss://a:{port}/ws?region={region},wss://b/ws"
            )
        )

    upstreams = Upstreams(read(1, "us", 1), scratch=tmp_path)
    link = upstreams._links["gateway0"]
    one, two = [s for s in upstreams.build_owned() if isinstance(s, PublicSource)]
    assert one._budget is two._budget
    one._budget.take(TRADES, holder=one.name)
    limit = one._budget.limits.connects_per_minute
    assert not any([one._budget.connect(now_s=0.0) for _ in range(limit)])
    assert not upstreams.use(read(2, "eu", 1))
    assert upstreams._links["gateway0"] is link
    assert upstreams.use(read(2, "eu", 2))
    (again, _) = [s for s in upstreams.build_owned() if isinstance(s, PublicSource)]
    assert again._budget.connect(now_s=1.0) > 0  # the minute's connections stay spent
    assert again._budget.subscriptions == 0  # and no place is held by who has ended


def test_a_label_disturbs_nothing(tmp_path: Path) -> None:
    before = {
        "public0": parse_upstreams("wss://api.hyperliquid.xyz/ws")[0],
        "gateway0": parse_upstreams("gateway://node1:50052")[0],
    }
    upstreams = Upstreams(before, scratch=tmp_path)
    links = dict(upstreams.nodes._links)
    labelled = {name: replace(spec, region="tokyo", weight=7) for name, spec in before.items()}
    assert not upstreams.use(labelled)
    assert upstreams.nodes._links == links
    assert upstreams.nodes._weights == {"gateway0": 7}
    assert upstreams.use({"public0": replace(before["public0"], chain="testnet")})


class Database:
    """Gives what is next, or fails with it."""

    def __init__(self, *answers: Specs | Exception) -> None:
        self.answers = list(answers)

    def __call__(self) -> Specs:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_rows_are_followed_whatever_goes_wrong(tmp_path: Path) -> None:
    one, two = specs(one=tmp_path), specs(one=tmp_path, two=tmp_path / "two")
    database = Database(
        one, InterfaceError(), OperationalError(), ValueError("too many values"), OSError(), two
    )
    kept = tmp_path / "var" / "upstreams.json"
    rows = Rows(database, kept=kept)
    assert rows.first() == one
    seen: asyncio.Queue[Specs] = asyncio.Queue()
    following = asyncio.ensure_future(rows.follow(seen.put_nowait, every_s=0))
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == two
        await seen.get()  # what came before was kept by now
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert Rows(Database(OperationalError()), kept=kept).first() == two
    assert kept.stat().st_mode & 0o077 == 0


def test_what_was_kept_is_what_was_read(tmp_path: Path) -> None:
    text = (
        "gateway://node1:50052?tls_ca=/ca.pem&tls_cert=/c.pem&tls_key=/k.pem&region=tokyo&weight=3,"
        "wss://api.hyperliquid.xyz/ws,node:///data?info=http://127.0.0.1:3001&chain=testnet"
    )
    every = named(parse_upstreams(text))
    kept = tmp_path / "upstreams.json"
    Rows(Database(every), kept=kept).first()
    assert Rows(Database(OperationalError()), kept=kept).first() == every


@pytest.mark.parametrize("left", [None, b"", b"[1]", b'{"a":{"kind":"moon","address":""}}'])
def test_without_a_database_and_a_former_start_it_says_so(
    tmp_path: Path, left: bytes | None
) -> None:
    kept = tmp_path / "upstreams.json"
    if left is not None:
        kept.write_bytes(left)
    with pytest.raises(NothingKnown, match="OperationalError"):
        Rows(Database(OperationalError("no such host, password=x")), kept=kept).first()


def test_only_a_changed_public_upstream_makes_the_owned_sources_anew(tmp_path: Path) -> None:
    public = named(parse_upstreams("wss://api.hyperliquid.xyz/ws"))
    upstreams = Upstreams(public, scratch=tmp_path)
    assert [source.name for source in upstreams.build_owned()] == ["public0"]
    assert upstreams.use(public | specs(one=tmp_path))  # now there is an /info to poll
    assert [source.name for source in upstreams.build_owned()] == ["polled", "public0"]
    assert not upstreams.use(public | specs(one=tmp_path, two=tmp_path / "two"))
    assert upstreams.use(specs(one=tmp_path))
    assert [source.name for source in upstreams.build_owned()] == ["polled"]
