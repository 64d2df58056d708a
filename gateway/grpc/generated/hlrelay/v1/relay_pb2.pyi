from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnSlow(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_SLOW_UNSPECIFIED: _ClassVar[OnSlow]
    ON_SLOW_CONFLATE: _ClassVar[OnSlow]
    ON_SLOW_SKIP: _ClassVar[OnSlow]
    ON_SLOW_DISCONNECT: _ClassVar[OnSlow]

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_JSON: _ClassVar[Encoding]
    ENCODING_TYPED: _ClassVar[Encoding]
ON_SLOW_UNSPECIFIED: OnSlow
ON_SLOW_CONFLATE: OnSlow
ON_SLOW_SKIP: OnSlow
ON_SLOW_DISCONNECT: OnSlow
ENCODING_UNSPECIFIED: Encoding
ENCODING_JSON: Encoding
ENCODING_TYPED: Encoding

class StreamRequest(_message.Message):
    __slots__ = ("subscribe", "unsubscribe", "ping")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    subscribe: Subscribe
    unsubscribe: Unsubscribe
    ping: Ping
    def __init__(self, subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., unsubscribe: _Optional[_Union[Unsubscribe, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("id", "channel", "coins", "users", "market_types", "n_levels", "n_sig_figs", "mantissa", "interval", "dex", "stream", "aggregate_by_time", "flush_event", "cursor", "height", "ms", "on_slow", "max_age_ms", "encoding")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    COINS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    MARKET_TYPES_FIELD_NUMBER: _ClassVar[int]
    N_LEVELS_FIELD_NUMBER: _ClassVar[int]
    N_SIG_FIGS_FIELD_NUMBER: _ClassVar[int]
    MANTISSA_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    DEX_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_BY_TIME_FIELD_NUMBER: _ClassVar[int]
    FLUSH_EVENT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    ON_SLOW_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    id: str
    channel: str
    coins: _containers.RepeatedScalarFieldContainer[str]
    users: _containers.RepeatedScalarFieldContainer[str]
    market_types: _containers.RepeatedScalarFieldContainer[str]
    n_levels: int
    n_sig_figs: int
    mantissa: int
    interval: str
    dex: str
    stream: str
    aggregate_by_time: bool
    flush_event: bool
    cursor: str
    height: int
    ms: int
    on_slow: OnSlow
    max_age_ms: int
    encoding: Encoding
    def __init__(self, id: _Optional[str] = ..., channel: _Optional[str] = ..., coins: _Optional[_Iterable[str]] = ..., users: _Optional[_Iterable[str]] = ..., market_types: _Optional[_Iterable[str]] = ..., n_levels: _Optional[int] = ..., n_sig_figs: _Optional[int] = ..., mantissa: _Optional[int] = ..., interval: _Optional[str] = ..., dex: _Optional[str] = ..., stream: _Optional[str] = ..., aggregate_by_time: _Optional[bool] = ..., flush_event: _Optional[bool] = ..., cursor: _Optional[str] = ..., height: _Optional[int] = ..., ms: _Optional[int] = ..., on_slow: _Optional[_Union[OnSlow, str]] = ..., max_age_ms: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ...) -> None: ...

class Unsubscribe(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, envelopes: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("sub_id", "height", "index", "cursor", "epoch", "seq", "prev_seq", "t_block", "t_node", "t_in", "t_out", "snapshot", "replay", "partial", "conflated", "part", "parts", "json", "trades", "bbo", "l2_book", "subscribed", "unsubscribed", "gap", "stale", "fresh", "resync", "replay_complete", "resume_failed", "notice", "going_away", "error", "pong")
    SUB_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PREV_SEQ_FIELD_NUMBER: _ClassVar[int]
    T_BLOCK_FIELD_NUMBER: _ClassVar[int]
    T_NODE_FIELD_NUMBER: _ClassVar[int]
    T_IN_FIELD_NUMBER: _ClassVar[int]
    T_OUT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    CONFLATED_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    BBO_FIELD_NUMBER: _ClassVar[int]
    L2_BOOK_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    REPLAY_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FAILED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    GOING_AWAY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    sub_id: str
    height: int
    index: int
    cursor: str
    epoch: str
    seq: int
    prev_seq: int
    t_block: int
    t_node: int
    t_in: int
    t_out: int
    snapshot: bool
    replay: bool
    partial: bool
    conflated: int
    part: int
    parts: int
    json: bytes
    trades: Trades
    bbo: Bbo
    l2_book: L2Book
    subscribed: Subscribed
    unsubscribed: Unsubscribed
    gap: Gap
    stale: Stale
    fresh: Fresh
    resync: Resync
    replay_complete: ReplayComplete
    resume_failed: ResumeFailed
    notice: Notice
    going_away: GoingAway
    error: Error
    pong: Pong
    def __init__(self, sub_id: _Optional[str] = ..., height: _Optional[int] = ..., index: _Optional[int] = ..., cursor: _Optional[str] = ..., epoch: _Optional[str] = ..., seq: _Optional[int] = ..., prev_seq: _Optional[int] = ..., t_block: _Optional[int] = ..., t_node: _Optional[int] = ..., t_in: _Optional[int] = ..., t_out: _Optional[int] = ..., snapshot: _Optional[bool] = ..., replay: _Optional[bool] = ..., partial: _Optional[bool] = ..., conflated: _Optional[int] = ..., part: _Optional[int] = ..., parts: _Optional[int] = ..., json: _Optional[bytes] = ..., trades: _Optional[_Union[Trades, _Mapping]] = ..., bbo: _Optional[_Union[Bbo, _Mapping]] = ..., l2_book: _Optional[_Union[L2Book, _Mapping]] = ..., subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., unsubscribed: _Optional[_Union[Unsubscribed, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., stale: _Optional[_Union[Stale, _Mapping]] = ..., fresh: _Optional[_Union[Fresh, _Mapping]] = ..., resync: _Optional[_Union[Resync, _Mapping]] = ..., replay_complete: _Optional[_Union[ReplayComplete, _Mapping]] = ..., resume_failed: _Optional[_Union[ResumeFailed, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., going_away: _Optional[_Union[GoingAway, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class Topic(_message.Message):
    __slots__ = ("channel", "coin", "user", "dex")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    COIN_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DEX_FIELD_NUMBER: _ClassVar[int]
    channel: str
    coin: str
    user: str
    dex: str
    def __init__(self, channel: _Optional[str] = ..., coin: _Optional[str] = ..., user: _Optional[str] = ..., dex: _Optional[str] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("subscription_json",)
    SUBSCRIPTION_JSON_FIELD_NUMBER: _ClassVar[int]
    subscription_json: str
    def __init__(self, subscription_json: _Optional[str] = ...) -> None: ...

class Unsubscribed(_message.Message):
    __slots__ = ("subscription_json",)
    SUBSCRIPTION_JSON_FIELD_NUMBER: _ClassVar[int]
    subscription_json: str
    def __init__(self, subscription_json: _Optional[str] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("topic", "from_cursor", "to_cursor", "from_height", "to_height", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    FROM_CURSOR_FIELD_NUMBER: _ClassVar[int]
    TO_CURSOR_FIELD_NUMBER: _ClassVar[int]
    FROM_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TO_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: Topic
    from_cursor: str
    to_cursor: str
    from_height: int
    to_height: int
    reason: str
    def __init__(self, topic: _Optional[_Union[Topic, _Mapping]] = ..., from_cursor: _Optional[str] = ..., to_cursor: _Optional[str] = ..., from_height: _Optional[int] = ..., to_height: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Stale(_message.Message):
    __slots__ = ("topic", "age_ms", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: Topic
    age_ms: int
    reason: str
    def __init__(self, topic: _Optional[_Union[Topic, _Mapping]] = ..., age_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Fresh(_message.Message):
    __slots__ = ("topic", "age_ms")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    topic: Topic
    age_ms: int
    def __init__(self, topic: _Optional[_Union[Topic, _Mapping]] = ..., age_ms: _Optional[int] = ...) -> None: ...

class Resync(_message.Message):
    __slots__ = ("topic", "epoch", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: Topic
    epoch: str
    reason: str
    def __init__(self, topic: _Optional[_Union[Topic, _Mapping]] = ..., epoch: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReplayComplete(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeFailed(_message.Message):
    __slots__ = ("topic", "oldest_cursor", "oldest_height", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    OLDEST_CURSOR_FIELD_NUMBER: _ClassVar[int]
    OLDEST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: Topic
    oldest_cursor: str
    oldest_height: int
    reason: str
    def __init__(self, topic: _Optional[_Union[Topic, _Mapping]] = ..., oldest_cursor: _Optional[str] = ..., oldest_height: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("code", "msg", "fields_json")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MSG_FIELD_NUMBER: _ClassVar[int]
    FIELDS_JSON_FIELD_NUMBER: _ClassVar[int]
    code: str
    msg: str
    fields_json: str
    def __init__(self, code: _Optional[str] = ..., msg: _Optional[str] = ..., fields_json: _Optional[str] = ...) -> None: ...

class GoingAway(_message.Message):
    __slots__ = ("in_ms",)
    IN_MS_FIELD_NUMBER: _ClassVar[int]
    in_ms: int
    def __init__(self, in_ms: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "msg", "fields_json")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MSG_FIELD_NUMBER: _ClassVar[int]
    FIELDS_JSON_FIELD_NUMBER: _ClassVar[int]
    code: str
    msg: str
    fields_json: str
    def __init__(self, code: _Optional[str] = ..., msg: _Optional[str] = ..., fields_json: _Optional[str] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Trades(_message.Message):
    __slots__ = ("coin", "trades")
    COIN_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    coin: str
    trades: _containers.RepeatedCompositeFieldContainer[Trade]
    def __init__(self, coin: _Optional[str] = ..., trades: _Optional[_Iterable[_Union[Trade, _Mapping]]] = ...) -> None: ...

class Trade(_message.Message):
    __slots__ = ("side", "px", "sz", "time", "tid", "hash", "users")
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PX_FIELD_NUMBER: _ClassVar[int]
    SZ_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    side: str
    px: str
    sz: str
    time: int
    tid: int
    hash: str
    users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, side: _Optional[str] = ..., px: _Optional[str] = ..., sz: _Optional[str] = ..., time: _Optional[int] = ..., tid: _Optional[int] = ..., hash: _Optional[str] = ..., users: _Optional[_Iterable[str]] = ...) -> None: ...

class Level(_message.Message):
    __slots__ = ("px", "sz", "n")
    PX_FIELD_NUMBER: _ClassVar[int]
    SZ_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    px: str
    sz: str
    n: int
    def __init__(self, px: _Optional[str] = ..., sz: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class Bbo(_message.Message):
    __slots__ = ("coin", "time", "bid", "ask")
    COIN_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    coin: str
    time: int
    bid: Level
    ask: Level
    def __init__(self, coin: _Optional[str] = ..., time: _Optional[int] = ..., bid: _Optional[_Union[Level, _Mapping]] = ..., ask: _Optional[_Union[Level, _Mapping]] = ...) -> None: ...

class L2Book(_message.Message):
    __slots__ = ("coin", "time", "bids", "asks")
    COIN_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    coin: str
    time: int
    bids: _containers.RepeatedCompositeFieldContainer[Level]
    asks: _containers.RepeatedCompositeFieldContainer[Level]
    def __init__(self, coin: _Optional[str] = ..., time: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[Level, _Mapping]]] = ...) -> None: ...

class GetBookRequest(_message.Message):
    __slots__ = ("coin", "n_levels", "n_sig_figs", "mantissa")
    COIN_FIELD_NUMBER: _ClassVar[int]
    N_LEVELS_FIELD_NUMBER: _ClassVar[int]
    N_SIG_FIGS_FIELD_NUMBER: _ClassVar[int]
    MANTISSA_FIELD_NUMBER: _ClassVar[int]
    coin: str
    n_levels: int
    n_sig_figs: int
    mantissa: int
    def __init__(self, coin: _Optional[str] = ..., n_levels: _Optional[int] = ..., n_sig_figs: _Optional[int] = ..., mantissa: _Optional[int] = ...) -> None: ...

class GetBookResponse(_message.Message):
    __slots__ = ("book", "height", "cursor")
    BOOK_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    book: L2Book
    height: int
    cursor: str
    def __init__(self, book: _Optional[_Union[L2Book, _Mapping]] = ..., height: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class GetBlockRequest(_message.Message):
    __slots__ = ("height",)
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    height: int
    def __init__(self, height: _Optional[int] = ...) -> None: ...

class GetBlockResponse(_message.Message):
    __slots__ = ("height", "json")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    height: int
    json: bytes
    def __init__(self, height: _Optional[int] = ..., json: _Optional[bytes] = ...) -> None: ...

class GetFillsRequest(_message.Message):
    __slots__ = ("height", "coin")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    COIN_FIELD_NUMBER: _ClassVar[int]
    height: int
    coin: str
    def __init__(self, height: _Optional[int] = ..., coin: _Optional[str] = ...) -> None: ...

class GetFillsResponse(_message.Message):
    __slots__ = ("height", "json")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    height: int
    json: bytes
    def __init__(self, height: _Optional[int] = ..., json: _Optional[bytes] = ...) -> None: ...

class GetCoverageRequest(_message.Message):
    __slots__ = ("subscription",)
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    subscription: Subscribe
    def __init__(self, subscription: _Optional[_Union[Subscribe, _Mapping]] = ...) -> None: ...

class GetCoverageResponse(_message.Message):
    __slots__ = ("is_kept", "oldest_cursor", "oldest_height", "newest_cursor", "newest_height")
    IS_KEPT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_CURSOR_FIELD_NUMBER: _ClassVar[int]
    OLDEST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NEWEST_CURSOR_FIELD_NUMBER: _ClassVar[int]
    NEWEST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    is_kept: bool
    oldest_cursor: str
    oldest_height: int
    newest_cursor: str
    newest_height: int
    def __init__(self, is_kept: _Optional[bool] = ..., oldest_cursor: _Optional[str] = ..., oldest_height: _Optional[int] = ..., newest_cursor: _Optional[str] = ..., newest_height: _Optional[int] = ...) -> None: ...

class EstimateCostRequest(_message.Message):
    __slots__ = ("subscriptions",)
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedCompositeFieldContainer[EstimatedSubscription]
    def __init__(self, subscriptions: _Optional[_Iterable[_Union[EstimatedSubscription, _Mapping]]] = ...) -> None: ...

class EstimatedSubscription(_message.Message):
    __slots__ = ("subscription", "hours_per_day", "connections")
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    HOURS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    subscription: Subscribe
    hours_per_day: float
    connections: int
    def __init__(self, subscription: _Optional[_Union[Subscribe, _Mapping]] = ..., hours_per_day: _Optional[float] = ..., connections: _Optional[int] = ...) -> None: ...

class EstimateCostResponse(_message.Message):
    __slots__ = ("lines", "messages_per_s", "messages_per_month", "bytes_per_month", "coin_minutes_per_month", "measured_hours", "is_whole_day", "plan", "offers", "cheapest", "assumptions")
    LINES_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_PER_S_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    COIN_MINUTES_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    MEASURED_HOURS_FIELD_NUMBER: _ClassVar[int]
    IS_WHOLE_DAY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    CHEAPEST_FIELD_NUMBER: _ClassVar[int]
    ASSUMPTIONS_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[EstimatedLine]
    messages_per_s: float
    messages_per_month: int
    bytes_per_month: int
    coin_minutes_per_month: int
    measured_hours: float
    is_whole_day: bool
    plan: EstimatedCost
    offers: _containers.RepeatedCompositeFieldContainer[EstimatedCost]
    cheapest: str
    assumptions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[_Union[EstimatedLine, _Mapping]]] = ..., messages_per_s: _Optional[float] = ..., messages_per_month: _Optional[int] = ..., bytes_per_month: _Optional[int] = ..., coin_minutes_per_month: _Optional[int] = ..., measured_hours: _Optional[float] = ..., is_whole_day: _Optional[bool] = ..., plan: _Optional[_Union[EstimatedCost, _Mapping]] = ..., offers: _Optional[_Iterable[_Union[EstimatedCost, _Mapping]]] = ..., cheapest: _Optional[str] = ..., assumptions: _Optional[_Iterable[str]] = ...) -> None: ...

class EstimatedLine(_message.Message):
    __slots__ = ("channel", "topics", "messages_per_s", "messages_per_month", "bytes_per_month", "basis", "measured_hours")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_PER_S_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_HOURS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    topics: int
    messages_per_s: float
    messages_per_month: int
    bytes_per_month: int
    basis: str
    measured_hours: float
    def __init__(self, channel: _Optional[str] = ..., topics: _Optional[int] = ..., messages_per_s: _Optional[float] = ..., messages_per_month: _Optional[int] = ..., bytes_per_month: _Optional[int] = ..., basis: _Optional[str] = ..., measured_hours: _Optional[float] = ...) -> None: ...

class EstimatedCost(_message.Message):
    __slots__ = ("plan", "name", "per_month", "fee", "serves_all", "refused", "missing", "too_small")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    SERVES_ALL_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    TOO_SMALL_FIELD_NUMBER: _ClassVar[int]
    plan: str
    name: str
    per_month: str
    fee: str
    serves_all: bool
    refused: _containers.RepeatedScalarFieldContainer[str]
    missing: _containers.RepeatedScalarFieldContainer[str]
    too_small: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, plan: _Optional[str] = ..., name: _Optional[str] = ..., per_month: _Optional[str] = ..., fee: _Optional[str] = ..., serves_all: _Optional[bool] = ..., refused: _Optional[_Iterable[str]] = ..., missing: _Optional[_Iterable[str]] = ..., too_small: _Optional[_Iterable[str]] = ...) -> None: ...
