"""The official WebSocket dialect, text by text, as mainnet was seen to speak it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.simulator import Service, Settings, Simulator, serve
from streaming.simulator.servers.dialect import Malformed, Subscribe, parse
from streaming.simulator.servers.feeds import PUBLIC
from streaming.simulator.servers.session import MAX_QUEUE_BYTES
from streaming.simulator.servers.socket import SocketRules, UnknownCoin

DEADLINE_S = 10
SETTINGS = Settings(seed=11, start_time_ns=1_790_000_000_000_000_000)


class Client:
    """A raw WebSocket client that hands over texts."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def ask(self, text: str) -> str:
        """Send a text and return the next frame."""
        await self.ws.send_str(text)
        return await self.next()

    async def next(self) -> str:
        """The next text frame, within the deadline."""
        return await self.ws.receive_str(timeout=DEADLINE_S)

    async def frame(self) -> dict:
        return json.loads(await self.next())

    async def subscribe(self, **subscription: object) -> dict:
        """Subscribe and return the acknowledged subscription."""
        ack = json.loads(
            await self.ask(json.dumps({"method": "subscribe", "subscription": subscription}))
        )
        assert ack["channel"] == "subscriptionResponse"
        return ack["data"]["subscription"]

    async def is_dropped(self) -> bool:
        """Whether the connection ends without a close frame."""
        message = await self.ws.receive(timeout=DEADLINE_S)
        return message.type is aiohttp.WSMsgType.CLOSED and self.ws.close_code == 1006


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serve(Simulator(SETTINGS), blocks_per_s=None) as running:
        for _ in range(60):
            running.step()
        yield running


@pytest.fixture
async def client(service: Service, http: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async with http.ws_connect(service.ws_url, compress=15) as ws:
        yield Client(ws)


SUBSCRIBE = '{"method":"subscribe","subscription":%s}'
ACK = '{"channel":"subscriptionResponse","data":{"method":"subscribe","subscription":%s}}'


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ('{"type":"bbo","coin":"BTC"}', '{"type":"bbo","coin":"BTC"}'),
        ('{"coin":"BTC","type":"trades","x":1}', '{"type":"trades","coin":"BTC"}'),
        (
            '{"type":"l2Book","coin":"BTC","fast":true}',
            '{"type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":true}',
        ),
        (
            '{"type":"l2Book","coin":"BTC","nLevels":100}',
            '{"type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":false}',
        ),
        (
            '{"type":"userFills","user":"0x31CA8395cf837de08b24da3f660e77761dfb974b"}',
            '{"type":"userFills","user":"0x31ca8395cf837de08b24da3f660e77761dfb974b",'
            '"aggregateByTime":false}',
        ),
        ('{"type":"allMids"}', '{"type":"allMids"}'),
        ('{"type":"allMids","dex":"xyz"}', '{"type":"allMids","dex":"xyz"}'),
    ],
)
async def test_acks_echo_the_normalised_subscription(
    client: Client, sent: str, echoed: str
) -> None:
    assert await client.ask(SUBSCRIBE % sent) == ACK % echoed


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"method":"dance"}',
        '{"method":"subscribe"}',
        '{"method": "subscribe", "subscription": {"type": "noSuchType", "coin": "BTC"}}',
        '{"method":"subscribe","subscription":{"type":"bbo","coin":["BTC","ETH"]}}',
        '{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC","nSigFigs":"5"}}',
        '{"method":"subscribe","subscription":{"type":"candle","coin":"BTC","interval":"7m"}}',
        '{"method":"subscribe","subscription":{"type":"userFills","user":"0x12"}}',
        '{"method":"post","request":{"type":"info","payload":{"type":"meta"}}}',
    ],
)
async def test_what_cannot_be_parsed_comes_back_verbatim(client: Client, text: str) -> None:
    assert json.loads(await client.ask(text)) == {
        "channel": "error",
        "data": f"Error parsing JSON into valid websocket request: {text}",
    }


async def test_duplicates_and_strangers(client: Client) -> None:
    await client.subscribe(type="orderUpdates", user="0x" + "1" * 40)
    await client.subscribe(type="l2Book", coin="SOL")
    await client.next()
    again = await client.ask(
        SUBSCRIBE % '{"type":"l2Book","coin":"SOL","nSigFigs":null,"mantissa":null}'
    )
    assert again == (
        '{"channel":"error","data":"Already subscribed: {\\"type\\":\\"l2Book\\",'
        '\\"coin\\":\\"SOL\\",\\"nSigFigs\\":null,\\"mantissa\\":null,\\"fast\\":false}"}'
    )
    stranger = '{"method":"unsubscribe","subscription":{"type":"trades","coin":"ETH"}}'
    assert await client.ask(stranger) == (
        '{"channel":"error","data":"Already unsubscribed: '
        '{\\"type\\":\\"trades\\",\\"coin\\":\\"ETH\\"}"}'
    )


async def test_unsubscribing_is_acknowledged_and_ends_the_frames(
    service: Service, client: Client
) -> None:
    await client.subscribe(type="l2Book", coin="BTC")
    await client.next()
    ack = await client.ask('{"method":"unsubscribe","subscription":{"type":"l2Book","coin":"BTC"}}')
    assert json.loads(ack)["data"]["method"] == "unsubscribe"
    for _ in range(5):
        service.step()
    assert await client.ask('{"method":"ping"}') == '{"channel":"pong"}'


async def test_no_compression_is_negotiated(client: Client) -> None:
    assert not client.ws._response.headers.get("Sec-WebSocket-Extensions")


@pytest.mark.parametrize(
    "subscription",
    [
        '{"type":"bbo","coin":"btc"}',
        '{"type":"trades","coin":"SP500"}',
        '{"type":"l2Book","coin":"BTC","nSigFigs":6}',
        '{"type":"l2Book","coin":"BTC","nSigFigs":4,"mantissa":2}',
        '{"type":"l2Book","coin":"BTC","mantissa":5}',
    ],
)
async def test_an_unknown_coin_or_aggregation_costs_the_connection(
    client: Client, subscription: str
) -> None:
    await client.ws.send_str(SUBSCRIBE % subscription)
    assert await client.is_dropped()


async def test_an_unknown_coin_may_be_an_error_frame_instead(http: aiohttp.ClientSession) -> None:
    rules = SocketRules(unknown_coin=UnknownCoin.ERROR)
    async with (
        serve(Simulator(SETTINGS), blocks_per_s=None, rules=rules) as service,
        http.ws_connect(service.ws_url) as ws,
    ):
        answer = await Client(ws).ask(SUBSCRIBE % '{"type":"bbo","coin":"btc"}')
        assert answer.startswith('{"channel":"error","data":"Invalid subscription: {')
        assert await Client(ws).ask('{"method":"ping"}') == '{"channel":"pong"}'


async def test_a_delisted_coin_is_acknowledged_and_empty(client: Client) -> None:
    await client.subscribe(type="bbo", coin="MATIC")
    assert (await client.frame())["data"]["bbo"] == [None, None]
    await client.subscribe(type="l2Book", coin="MATIC")
    assert (await client.frame())["data"]["levels"] == [[], []]


async def test_trades_begin_with_the_last_thirty_and_miss_none(
    service: Service, client: Client
) -> None:
    tape = service.simulator.exchange.tapes["BTC"]
    recent = list(tape.recent)[-30:]
    await client.subscribe(type="trades", coin="BTC")
    assert (await client.frame())["data"] == recent
    after = [trade for _ in range(80) for trade in service.step().trades.get("BTC", [])]
    got: list[dict] = []
    while len(got) < len(after):
        frame = await client.frame()
        assert frame["channel"] == "trades"
        got += frame["data"]
    assert got == after


async def test_bbo_comes_on_change_only(service: Service, client: Client) -> None:
    await client.subscribe(type="bbo", coin="BTC")
    last = (await client.frame())["data"]["bbo"]
    for _ in range(100):
        service.step()
    await client.ws.send_str('{"method":"ping"}')
    pushes = 0
    while (frame := await client.frame())["channel"] == "bbo":
        assert frame["data"]["bbo"] != last
        last = frame["data"]["bbo"]
        pushes += 1
    assert 5 < pushes < 100
    book = service.simulator.exchange.books["BTC"]
    assert book.bids.best is not None
    assert last[0]["px"] == book.coin.px_text(book.bids.best.px)


async def test_books_come_with_every_block_that_changed_them(
    service: Service, client: Client
) -> None:
    await client.subscribe(type="l2Book", coin="ETH")
    first = await client.frame()
    assert list(first["data"]) == ["coin", "time", "levels"]
    assert [len(side) for side in first["data"]["levels"]] == [20, 20]
    changed = [
        block.time_ms for block in (service.step() for _ in range(30)) if "ETH" in block.changed
    ]
    assert [(await client.frame())["data"]["time"] for _ in changed] == changed


async def test_the_public_cadence_resends_on_one_clock(http: aiohttp.ClientSession) -> None:
    async with (
        serve(Simulator(SETTINGS), blocks_per_s=None, cadence=PUBLIC) as service,
        http.ws_connect(service.ws_url) as ws,
    ):
        client = Client(ws)
        await client.subscribe(type="l2Book", coin="BTC", fast=True)
        first = await client.frame()
        assert list(first["data"])[-1] == "fast"
        assert len(first["data"]["levels"][0]) == 5
        for _ in range(80):
            service.step()
        times = [(await client.frame())["data"]["time"] for _ in range(10)]
        assert {b - a for a, b in itertools.pairwise(times)} == {8 * 70}


async def test_user_feeds(service: Service, client: Client) -> None:
    user = next(
        each.address for each in service.simulator.accounts.values() if len(each.fills) > 20
    )
    await client.subscribe(type="userFills", user=user)
    snapshot = await client.frame()
    assert list(snapshot["data"]) == ["isSnapshot", "user", "fills"]
    assert snapshot["data"]["fills"][0]["time"] >= snapshot["data"]["fills"][-1]["time"]
    await client.subscribe(type="userEvents", user=user)
    await client.subscribe(type="orderUpdates", user=user)
    blocks = [service.step() for _ in range(60)]
    fills = [f["tid"] for b in blocks for who, f in b.fills if who == user]
    updates = [s["order"]["oid"] for b in blocks for s in b.statuses if s["user"] == user]
    got: dict[str, list] = {"userFills": [], "user": [], "orderUpdates": []}
    while [len(rows) for rows in got.values()] != [len(fills), len(fills), len(updates)]:
        frame = await client.frame()
        data = frame["data"]
        got[frame["channel"]] += data if frame["channel"] == "orderUpdates" else data["fills"]
    assert [fill["tid"] for fill in got["userFills"]] == fills
    assert got["user"] == got["userFills"]
    assert [update["order"]["oid"] for update in got["orderUpdates"]] == updates
    assert not any("deployerFee" in fill or "builder" in fill for fill in got["userFills"])
    assert list(got["orderUpdates"][0]) == ["order", "status", "statusTimestamp"]


async def test_an_unknown_user_has_an_empty_snapshot(client: Client) -> None:
    user = "0x" + "7" * 40
    await client.subscribe(type="userFills", user=user)
    assert await client.next() == (
        f'{{"channel":"userFills","data":{{"isSnapshot":true,"user":"{user}","fills":[]}}}}'
    )


@pytest.mark.parametrize(
    ("subscription", "channel", "keys"),
    [
        ({"type": "allMids"}, "allMids", ["mids"]),
        ({"type": "allMids", "dex": "xyz"}, "allMids", ["dex", "mids"]),
        ({"type": "activeAssetCtx", "coin": "BTC"}, "activeAssetCtx", ["coin", "ctx"]),
        ({"type": "activeAssetCtx", "coin": "@107"}, "activeSpotAssetCtx", ["coin", "ctx"]),
        (
            {"type": "candle", "coin": "BTC", "interval": "1m"},
            "candle",
            ["t", "T", "s", "i", "o", "c", "h", "l", "v", "n"],
        ),
    ],
)
async def test_state_feeds_begin_with_their_state(
    client: Client, subscription: dict, channel: str, keys: list[str]
) -> None:
    await client.subscribe(**subscription)
    frame = await client.frame()
    assert (frame["channel"], list(frame["data"])) == (channel, keys)


async def test_posts_answer_info_and_name_their_failures(client: Client) -> None:
    post = '{"method":"post","id":7,"request":{"type":"%s","payload":%s}}'
    assert await client.ask(post % ("info", '{"type":"l2Book","coin":"NOPE"}')) == (
        '{"channel":"post","data":{"id":7,"response":{"type":"info","payload":'
        '{"type":"l2Book","data":null}}}}'
    )
    failed = json.loads(await client.ask(post % ("info", '{"type":"nope"}')))
    assert failed["data"]["response"]["type"] == "error"
    assert failed["data"]["response"]["payload"].startswith("422 Failed to deserialize")
    action = json.loads(await client.ask(post % ("action", '{"action":{}}')))
    assert action["data"]["response"]["type"] == "error"
    assert action["data"]["response"]["payload"].startswith("422 Failed to deserialize")


async def test_limits(http: aiohttp.ClientSession) -> None:
    async with (
        serve(Simulator(SETTINGS), blocks_per_s=None) as service,
        http.ws_connect(service.ws_url) as ws,
    ):
        client = Client(ws)
        for number in range(10):
            await client.subscribe(type="orderUpdates", user=f"0x{number:040x}")
        refused = await client.ask(
            SUBSCRIBE % json.dumps({"type": "orderUpdates", "user": f"0x{10:040x}"})
        )
        assert refused == '{"channel":"error","data":"Cannot track more than 10 total users."}'
        for _ in range(2_000 - 11):
            await ws.send_str('{"method":"ping"}')
        for _ in range(2_000 - 11):
            assert await client.next() == '{"channel":"pong"}'
        assert await client.ask('{"method":"ping"}') == (
            '{"channel":"error","data":"Cannot send more than 2000 messages per minute."}'
        )


async def test_a_connection_sent_nothing_is_dropped(http: aiohttp.ClientSession) -> None:
    rules = SocketRules(idle_s=0.2)
    async with (
        serve(Simulator(SETTINGS), blocks_per_s=None, rules=rules) as service,
        http.ws_connect(service.ws_url) as ws,
    ):
        assert await Client(ws).is_dropped()


async def test_a_client_that_does_not_read_is_cut_and_costs_a_bounded_amount(
    service: Service,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.endpoint.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    text = (SUBSCRIBE % '{"type":"l2Book","coin":"BTC"}').encode()
    mask = bytes(4)
    writer.write(bytes([0x81, 0x80 | len(text)]) + mask + text)
    socket = service.endpoint.socket
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    await reader.readuntil(b'"fast":false}}}')
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    (session,) = socket.sessions
    ((route, _),) = socket.wanted()
    async with asyncio.timeout(DEADLINE_S):
        while not session.is_gone:
            socket.publish(route, bytes(50_000), channel="l2Book")
            assert session.queued_bytes <= MAX_QUEUE_BYTES
            await asyncio.sleep(0)
    assert socket.cut == 1
    writer.close()


async def test_the_oracle_sees_what_was_sent(
    service: Service, client: Client, http: aiohttp.ClientSession
) -> None:
    await client.subscribe(type="trades", coin="BTC")
    await client.next()
    async with http.get(f"{service.http_url}/sim/state") as answer:
        state = await answer.json()
    assert state["height"] == service.simulator.height
    tape = service.simulator.exchange.tapes["BTC"]
    assert state["coins"]["BTC"] == {"lastTid": tape.last_tid, "trades": tape.count}
    assert state["connections"][0]["sent"] == {"subscriptionResponse": 1, "trades": 1}


@given(st.text(max_size=60))
def test_parsing_never_raises(text: str) -> None:
    assert parse(text)


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "coin", "nSigFigs", "mantissa", "fast", "user", "interval", "dex"]
        ),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-3, 9),
            st.sampled_from(
                ["l2Book", "bbo", "candle", "allMids", "userFills", "BTC", "1m", "xyz"]
            ),
            st.lists(st.text(max_size=3), max_size=2),
        ),
    )
)
def test_a_normalised_subscription_is_its_own_normal_form(subscription: dict) -> None:
    request = parse(json.dumps({"method": "subscribe", "subscription": subscription}))
    if isinstance(request, Malformed):
        return
    assert isinstance(request, Subscribe)
    assert parse(SUBSCRIBE % request.text) == request
