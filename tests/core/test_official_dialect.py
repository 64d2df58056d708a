"""The exchange's dialect: texts to the letter, and nothing that can make the parser fall over."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.dialects import official
from streaming.core.topic import Kind, Topic, parse_name

LOWER = "0x31ca8395cf837de08b24da3f660e77761dfb974b"
MIXED = "0x31CA8395cf837de08b24da3f660e77761dfb974B"
USER_TYPES = (
    "orderUpdates", "userEvents", "userTwapSliceFills", "userTwapHistory", "userFundings",
    "userNonFundingLedgerUpdates", "userHistoricalOrders", "notification", "openOrders",
    "clearinghouseState", "allDexsClearinghouseState", "spotState", "twapStates", "webData2",
    "webData3",
)  # fmt: skip
SUBSCRIBE = '{"method":"subscribe","subscription":%s}'


def parse_one(subscription: str) -> official.Request:
    return official.parse(SUBSCRIBE % subscription)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (
            '{"type":"l2Book","coin":"BTC"}',
            '{"type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":false}',
        ),
        (
            '{"coin":"BTC","fast":true,"type":"l2Book","extra":1}',
            '{"type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":true}',
        ),
        (
            '{"type":"l2Book","coin":"BTC","nLevels":100,"nSigFigs":5,"mantissa":2}',
            '{"type":"l2Book","coin":"BTC","nSigFigs":5,"nLevels":100,"mantissa":2,"fast":false}',
        ),
        ('{"type":"bbo","coin":"xyz:SP500"}', '{"type":"bbo","coin":"xyz:SP500"}'),
        ('{"type":"trades","coin":"@107"}', '{"type":"trades","coin":"@107"}'),
        ('{"type":"l4Book","coin":"BTC"}', '{"type":"l4Book","coin":"BTC"}'),
        ('{"type":"allMids"}', '{"type":"allMids"}'),
        ('{"type":"allMids","dex":"xyz"}', '{"type":"allMids","dex":"xyz"}'),
        ('{"type":"allMids","dex":null}', '{"type":"allMids","dex":null}'),
        ('{"type":"assetCtxs","dex":""}', '{"type":"assetCtxs","dex":""}'),
        ('{"type":"spotAssetCtxs","coin":"BTC"}', '{"type":"spotAssetCtxs"}'),
        ('{"type":"allDexsAssetCtxs"}', '{"type":"allDexsAssetCtxs"}'),
        ('{"type":"fastAssetCtxs"}', '{"type":"fastAssetCtxs"}'),
        ('{"type":"outcomeMetaUpdates"}', '{"type":"outcomeMetaUpdates"}'),
        ('{"type":"activeAssetCtx","coin":"@107"}', '{"type":"activeAssetCtx","coin":"@107"}'),
        (
            '{"type":"candle","coin":"BTC","interval":"1M"}',
            '{"type":"candle","interval":"1M","coin":"BTC"}',
        ),
        (
            f'{{"type":"userFills","user":"{MIXED}"}}',
            f'{{"type":"userFills","user":"{LOWER}","aggregateByTime":false}}',
        ),
        (
            f'{{"type":"userFills","aggregateByTime":true,"user":"{MIXED}"}}',
            f'{{"type":"userFills","user":"{LOWER}","aggregateByTime":true}}',
        ),
        (f'{{"type":"user","user":"{MIXED}"}}', f'{{"type":"userEvents","user":"{LOWER}"}}'),
        (
            f'{{"type":"openOrders","dex":"xyz","user":"{MIXED}"}}',
            f'{{"type":"openOrders","user":"{LOWER}","dex":"xyz"}}',
        ),
        (
            f'{{"type":"activeAssetData","coin":"BTC","user":"{MIXED}"}}',
            f'{{"type":"activeAssetData","user":"{LOWER}","coin":"BTC"}}',
        ),
        (
            f'{{"type":"spotState","user":"{MIXED}","ignorePortfolioMargin":false}}',
            f'{{"type":"spotState","user":"{LOWER}","ignorePortfolioMargin":false}}',
        ),
        (
            f'{{"type":"spotState","user":"{MIXED}","isPortfolioMargin":true}}',
            f'{{"type":"spotState","user":"{LOWER}"}}',
        ),
        *(
            (f'{{"type":"{kind}","user":"{MIXED}"}}', f'{{"type":"{kind}","user":"{LOWER}"}}')
            for kind in USER_TYPES
        ),
    ],
)
def test_the_echo_is_normalised(sent: str, echoed: str) -> None:
    request = parse_one(sent)
    assert isinstance(request, official.Subscribe)
    assert request.echo == echoed
    assert parse_name(request.topic.name) == request.topic


def test_twenty_levels_are_the_default_and_the_same_topic() -> None:
    plain, explicit = (
        parse_one('{"type":"l2Book","coin":"BTC"}'),
        parse_one('{"type":"l2Book","coin":"BTC","nLevels":20}'),
    )
    assert isinstance(plain, official.Subscribe)
    assert isinstance(explicit, official.Subscribe)
    assert plain.topic == explicit.topic


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        "[]",
        '{"method":"subscribe"}',
        '{"method":"fly","subscription":{"type":"bbo","coin":"BTC"}}',
        SUBSCRIBE % '{"type":"bbo","coin":["BTC","ETH"]}',
        SUBSCRIBE % '{"type":"noSuchType","coin":"BTC"}',
        SUBSCRIBE % '{"type":"bbo"}',
        SUBSCRIBE % '{"type":"l2Book","coin":"BTC","nSigFigs":"5"}',
        SUBSCRIBE % '{"type":"l2Book","coin":"BTC","nSigFigs":true}',
        SUBSCRIBE % '{"type":["bbo"],"coin":"BTC"}',
        SUBSCRIBE % '{"type":"candle","coin":"BTC"}',
        SUBSCRIBE % '{"type":"candle","coin":"BTC","interval":"2m"}',
        SUBSCRIBE % '{"type":"userFills"}',
        SUBSCRIBE % '{"type":"userFills","user":"0x31ca"}',
        SUBSCRIBE % '{"type":"userFills","user":["0x31ca8395cf837de08b24da3f660e77761dfb974b"]}',
        SUBSCRIBE % '{"type":"l2Diff","coin":"BTC"}',
        SUBSCRIBE % '{"type":"l4Diff","coin":"BTC"}',
        SUBSCRIBE % '{"type":"raw","stream":"node_fills"}',
        '{"method":"post","request":{"type":"info","payload":{}}}',
        '{"method":"post","id":1.5,"request":{"type":"info","payload":{}}}',
    ],
)
def test_what_cannot_be_read_is_quoted_verbatim(frame: str) -> None:
    assert official.parse(frame) == official.Refused(
        f"Error parsing JSON into valid websocket request: {frame}"
    )


@pytest.mark.parametrize(
    "subscription",
    [
        '{"type":"l2Book","coin":"BTC","nSigFigs":6}',
        '{"type":"l2Book","coin":"BTC","nSigFigs":1}',
        '{"type":"l2Book","coin":"BTC","mantissa":2}',
        '{"type":"l2Book","coin":"BTC","nSigFigs":4,"mantissa":2}',
        '{"type":"l2Book","coin":"BTC","nSigFigs":5,"mantissa":3}',
        '{"type":"l2Book","coin":"BTC","nLevels":101}',
        '{"type":"l2Book","coin":"BTC","nLevels":0}',
        '{"type":"bbo","coin":"a coin"}',
        '{"type":"bbo","coin":""}',
        '{"type":"allMids","dex":"a dex"}',
        f'{{"type":"activeAssetData","user":"{LOWER}","coin":""}}',
        f'{{"type":"spotState","user":"{LOWER}","ignorePortfolioMargin":true}}',
    ],
)
def test_what_the_exchange_would_hang_up_on_is_an_error_frame(subscription: str) -> None:
    request = parse_one(subscription)
    assert isinstance(request, official.Refused)
    assert request.text.startswith("Invalid subscription: {")
    orjson.loads(request.text.removeprefix("Invalid subscription: "))


@pytest.mark.parametrize("kind", ["explorerBlock", "explorerTxs"])
def test_feeds_of_another_host_are_refused_by_its_name(kind: str) -> None:
    assert parse_one(f'{{"type":"{kind}","x":1}}') == official.Refused(
        "Invalid subscription: type is served by wss://rpc.hyperliquid.xyz/ws, not here: "
        f'{{"type":"{kind}"}}'
    )


def test_frames_are_sent_under_their_channel() -> None:
    assert official.channel_of(Topic(Kind.USER_EVENTS, user=LOWER)) == "user"
    assert official.channel_of(Topic(Kind.ACTIVE_ASSET_CTX, "BTC")) == "activeAssetCtx"
    assert official.channel_of(Topic(Kind.ACTIVE_ASSET_CTX, "xyz:SP500")) == "activeAssetCtx"
    assert official.channel_of(Topic(Kind.ACTIVE_ASSET_CTX, "@107")) == "activeSpotAssetCtx"
    assert official.channel_of(Topic(Kind.ACTIVE_ASSET_CTX, "PURR/USDC")) == "activeSpotAssetCtx"
    assert official.channel_of(Topic(Kind.OPEN_ORDERS, user=LOWER)) == "openOrders"


def test_requests_without_a_subscription() -> None:
    assert official.parse('{"method":"ping"}') == official.Ping()
    assert official.parse(
        '{"method":"post","id":7,"request":{"type":"info","payload":{"type":"meta"}}}'
    ) == official.Post(7, "info", {"type": "meta"})


def test_recorded_acks_and_errors(recorded_frames: list[str]) -> None:
    """Every ack and error that was recorded from the exchange is rendered to the same bytes."""
    seen = 0
    for raw in recorded_frames:
        frame = orjson.loads(raw)
        if frame["channel"] == "subscriptionResponse":
            data = frame["data"]
            if data["subscription"]["type"] not in set(Kind):
                continue
            _, echo = official.parse_subscription(data["subscription"])
            assert official.acknowledged(data["method"], echo).decode() == raw
            seen += 1
        elif frame["channel"] == "error":
            assert official.error(frame["data"]).decode() == raw
            seen += 1
    assert seen >= 5


@given(
    st.sampled_from([b'{"type":"order", "x" : 1.10}', b'{"a":[1e2,"\\u0041"]}', b"null", b"[ ]"]),
    st.sampled_from(["", " ", "\n\t"]),
)
def test_a_posted_action_is_kept_as_it_was_written(payload: bytes, space: str) -> None:
    request = '{"payload":' + space + payload.decode() + space + ',"type":"action"}'
    text = '{"method":"post","id":3,"request":' + request + "}"
    post = official.parse(text)
    assert isinstance(post, official.Post)
    assert post.body == payload
    # Of a key that comes twice, what was understood is what is sent.
    twice = official.parse(
        '{"method":"post","id":3,"request":{"type":"action","payload":1,"payload":{"a":2}}}'
    )
    assert isinstance(twice, official.Post)
    assert (twice.payload, twice.body) == ({"a": 2}, b'{"a":2}')


def test_post_answers_have_the_recorded_shape() -> None:
    payload = b'{"type":"l2Book","data":null}'
    assert official.post_answer(7, "info", payload) == (
        b'{"channel":"post","data":{"id":7,"response":'
        b'{"type":"info","payload":{"type":"l2Book","data":null}}}}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    official.parse(text)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["subscribe", "unsubscribe", "ping", "post"]) | json_values,
            "subscription": json_values
            | st.fixed_dictionaries(
                {"type": st.sampled_from(list(Kind))},
                optional={
                    "coin": json_values,
                    "nSigFigs": json_values,
                    "mantissa": json_values,
                    "fast": json_values,
                    "nLevels": json_values,
                    "dex": json_values,
                    "user": json_values | st.just(LOWER),
                    "interval": json_values | st.sampled_from(["1m", "1M"]),
                    "aggregateByTime": json_values,
                    "ignorePortfolioMargin": json_values,
                },
            ),
            "id": json_values,
            "request": json_values,
        },
    )
)
def test_no_object_breaks_the_parser(frame: dict[str, object]) -> None:
    request = official.parse(orjson.dumps(frame).decode())
    if isinstance(request, official.Subscribe):
        orjson.loads(request.echo)
        assert parse_name(request.topic.name) == request.topic


@given(
    st.builds(
        Topic,
        kind=st.just(Kind.L2_BOOK),
        coin=st.from_regex(r"[A-Za-z0-9@#:/._-]{1,20}", fullmatch=True),
        n_levels=st.integers(1, 100),
        n_sig_figs=st.none() | st.integers(2, 5),
        mantissa=st.none() | st.sampled_from([2, 5]),
        fast=st.booleans(),
        dex=st.just(""),
        user=st.just(""),
        interval=st.just(""),
        aggregate=st.just(False),
        stream=st.just(""),
        by_event=st.just(False),
    )
)
def test_a_topic_survives_its_name(topic: Topic) -> None:
    assert parse_name(topic.name) == topic
