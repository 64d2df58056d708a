"""POST /info: the real shapes, the real errors."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from streaming.simulator import Service, Settings, Simulator, serve

START_NS = 1_790_000_000_000_000_000


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serve(
        Simulator(Settings(seed=3, start_time_ns=START_NS)), blocks_per_s=None
    ) as running:
        for _ in range(300):
            running.step()
        yield running


class Info:
    """Asks /info of one service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def raw(self, body: bytes) -> tuple[int, str, str]:
        async with self.session.post(f"{self.url}/info", data=body) as answer:
            return answer.status, answer.content_type, await answer.text()

    async def __call__(self, **body: object) -> object:
        status, content_type, text = await self.raw(json.dumps(body).encode())
        assert (status, content_type) == (200, "application/json")
        return json.loads(text)


@pytest.fixture
async def info(service: Service) -> AsyncIterator[Info]:
    async with aiohttp.ClientSession() as session:
        yield Info(session, service.http_url)


def busiest(service: Service) -> str:
    return max(service.simulator.accounts.values(), key=lambda account: len(account.fills)).address


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 422, "Failed to deserialize the JSON body into the target type"),
        (b'{"type":"nope"}', 422, "Failed to deserialize the JSON body into the target type"),
        (b"[]", 422, "Failed to deserialize the JSON body into the target type"),
        (b'{"type":"userFills","user":"me"}', 422, "Failed to deserialize"),
        (b'{"type":"l2Book","coin":"NOPE"}', 200, "null"),
        (b'{"type":"l2Book","coin":"BTC","nSigFigs":1}', 500, "null"),
        (b'{"type":"l2Book","coin":"BTC","nSigFigs":5,"mantissa":1}', 500, "null"),
    ],
)
async def test_refusals(info: Info, body: bytes, status: int, text: str) -> None:
    answered, content_type, content = await info.raw(body)
    assert answered == status
    assert content.startswith(text)
    assert content_type == ("text/plain" if status == 422 else "application/json")


async def test_every_listed_perp_has_its_context_at_its_index(info: Info) -> None:
    meta, ctxs = await info(type="metaAndAssetCtxs")
    assert meta == await info(type="meta")
    assert len(meta["universe"]) == len(ctxs) >= 12
    for coin, ctx in zip(meta["universe"], ctxs, strict=True):
        assert (ctx["midPx"] is None) == coin.get("isDelisted", False)


async def test_the_builder_dex_is_apart(info: Info) -> None:
    dexes = await info(type="perpDexs")
    assert dexes[0] is None
    assert dexes[1]["name"] == "xyz"
    assert [c["name"] for c in (await info(type="meta", dex="xyz"))["universe"]] == ["xyz:SP500"]
    mids = await info(type="allMids")
    assert list(mids) == sorted(mids)
    assert "xyz:SP500" not in mids
    assert {"BTC", "@107", "PURR/USDC"} <= set(mids)
    assert list(await info(type="allMids", dex="xyz")) == ["xyz:SP500"]


async def test_spot_pairs_point_at_their_tokens(info: Info) -> None:
    meta, ctxs = await info(type="spotMetaAndAssetCtxs")
    tokens = {token["index"]: token["name"] for token in meta["tokens"]}
    assert {
        (p["name"], tokens[p["tokens"][0]], tokens[p["tokens"][1]]) for p in meta["universe"]
    } == {
        ("PURR/USDC", "PURR", "USDC"),
        ("@107", "HYPE", "USDC"),
    }
    assert [ctx["coin"] for ctx in ctxs] == [pair["name"] for pair in meta["universe"]]


async def test_grouped_books_carry_their_spread(info: Info) -> None:
    book = await info(type="l2Book", coin="BTC", nSigFigs=5, mantissa=5)
    assert list(book) == ["coin", "time", "levels", "spread"]
    assert all(float(row["px"]) % 5 == 0 for side in book["levels"] for row in side)


async def test_a_user_is_the_same_in_every_answer(service: Service, info: Info) -> None:
    user = busiest(service)
    state = await info(type="clearinghouseState", user=user.upper().replace("0X", "0x"))
    fills = await info(type="userFills", user=user)
    assert [f["time"] for f in fills] == sorted((f["time"] for f in fills), reverse=True)
    held = {row["position"]["coin"]: row["position"]["szi"] for row in state["assetPositions"]}
    latest = {fill["coin"]: fill for fill in reversed(fills)}
    for coin, fill in latest.items():
        if coin in held:
            sign = 1 if fill["side"] == "B" else -1
            after = float(fill["startPosition"]) + sign * float(fill["sz"])
            assert after == pytest.approx(float(held[coin]))
    since = fills[len(fills) // 2]["time"]
    later = await info(type="userFillsByTime", user=user, startTime=since)
    assert later == [fill for fill in reversed(fills) if fill["time"] >= since]
    assert await info(type="userRole", user=user) == {"role": "user"}


async def test_orders_open_and_gone(service: Service, info: Info) -> None:
    maker = next(iter(service.simulator.accounts))
    short = await info(type="openOrders", user=maker)
    full = await info(type="frontendOpenOrders", user=maker)
    assert [row["oid"] for row in short] == [row["oid"] for row in full]
    assert list(short[0])[:7] == ["coin", "limitPx", "oid", "side", "sz", "timestamp", "origSz"]
    found = await info(type="orderStatus", user=maker, oid=short[0]["oid"])
    assert found["order"]["status"] == "open"
    assert found["order"]["statusTimestamp"] == short[0]["timestamp"]
    named = next(row for row in short if "cloid" in row)
    by_cloid = await info(type="orderStatus", user=maker, oid=named["cloid"])
    assert by_cloid["order"]["order"]["cloid"] == named["cloid"]
    assert await info(type="orderStatus", user=maker, oid=1) == {"status": "unknownOid"}


async def test_strangers_are_empty_but_valid(info: Info) -> None:
    user = "0x" + "9" * 40
    assert (await info(type="clearinghouseState", user=user))["assetPositions"] == []
    assert await info(type="spotClearinghouseState", user=user) == {"balances": []}
    assert await info(type="openOrders", user=user) == []
    assert await info(type="userFills", user=user) == []
    assert await info(type="userRole", user=user) == {"role": "missing"}


async def test_candles_reach_back_without_a_hole(service: Service, info: Info) -> None:
    now_ms = service.simulator.exchange.block.time_ms
    req = {"coin": "BTC", "interval": "1m", "startTime": now_ms - 3_600_000, "endTime": now_ms}
    rows = await info(type="candleSnapshot", req=req)
    assert len(rows) == 61
    assert all(a["T"] + 1 == b["t"] for a, b in itertools.pairwise(rows))
    for row in rows:
        low, high = float(row["l"]), float(row["h"])
        assert low <= float(row["o"]) <= high
        assert low <= float(row["c"]) <= high
    month = await info(
        type="candleSnapshot", req={**req, "interval": "1M", "startTime": now_ms - 90 * 86_400_000}
    )
    assert len(month) in (3, 4)


async def test_recent_trades_are_newest_first(service: Service, info: Info) -> None:
    rows = await info(type="recentTrades", coin="BTC")
    assert rows == list(service.simulator.exchange.tapes["BTC"].recent)[:-31:-1]


async def test_the_snapshot_file_is_there_when_the_answer_is(
    service: Service, info: Info, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    request = {"type": "l4Snapshots", "includeUsers": True, "includeTriggerOrders": False}
    body = {"type": "fileSnapshot", "request": request, "outPath": str(out)}
    assert await info(**body, includeHeightInOutput=True) is None
    height, coins = json.loads(out.read_bytes())
    assert height == service.simulator.height
    assert [coin for coin, _ in coins] == list(service.simulator.exchange.books)
    await info(**{**body, "request": {"type": "l4Snapshots"}})
    assert isinstance(json.loads(out.read_bytes())[0][1][0][0], dict)
    status, _, text = await info.raw(
        json.dumps({**body, "outPath": str(tmp_path / "no" / "x")}).encode()
    )
    assert status == 500
    assert "could not write" in text


def recorded_bodies(folder: Path) -> list[tuple[str, dict, object]]:
    """Type, request and answer of every recorded exchange."""
    with gzip.open(folder / "http" / "python_sdk_cassettes.jsonl.gz") as file:
        rows = [json.loads(line) for line in file]
    return [(r["request"]["type"], r["request"], json.loads(r["response_raw"])) for r in rows]


SHAPES = ("meta", "allMids", "l2Book", "candleSnapshot", "openOrders", "userFills")


@pytest.mark.parametrize("kind", [*SHAPES, "frontendOpenOrders", "clearinghouseState"])
async def test_bodies_have_every_recorded_key(
    service: Service, info: Info, test_data: Path, kind: str
) -> None:
    _, request, real = next(row for row in recorded_bodies(test_data) if row[0] == kind)
    # Names and users of the recording are replaced by some that trade here.
    body = {**request, "coin": "BTC"}
    if "user" in request:
        maker = next(iter(service.simulator.accounts))
        body["user"] = maker if "Orders" in kind else busiest(service)
    if kind == "candleSnapshot":
        now_ms = service.simulator.exchange.block.time_ms
        body["req"] = {
            "coin": "BTC",
            "interval": "1h",
            "startTime": now_ms - 10**7,
            "endTime": now_ms,
        }
    ours = await info(**body)
    # Gone from today's answers: maxTradeSzs of a position.
    assert keys(real) - {"maxTradeSzs"} <= keys(ours)


def keys(body: object) -> set[str]:
    """All object keys of a body that are not coin names."""
    if isinstance(body, dict):
        own = {key for key in body if not key.isupper() or key == "T"}
        return own.union(*(keys(each) for each in body.values())) - {"kPEPE", "PURR/USDC"}
    return set().union(*(keys(each) for each in body)) if isinstance(body, list) else set()


async def test_metrics_are_on_their_own_port(service: Service) -> None:
    async with (
        serve(
            Simulator(Settings(start_time_ns=START_NS)), blocks_per_s=None, metrics_port=0
        ) as running,
        aiohttp.ClientSession() as session,
    ):
        running.step()
        async with session.get(f"http://127.0.0.1:{running.metrics_port}/metrics") as answer:
            text = await answer.text()
    assert "simulator_blocks_total 2.0" in text
    assert 'simulator_events_total{stream="node_fills"}' in text
