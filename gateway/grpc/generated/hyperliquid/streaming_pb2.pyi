from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[StreamType]
    TRADES: _ClassVar[StreamType]
    ORDERS: _ClassVar[StreamType]
    BOOK_UPDATES: _ClassVar[StreamType]
    TWAP: _ClassVar[StreamType]
    EVENTS: _ClassVar[StreamType]
    BLOCKS: _ClassVar[StreamType]
    WRITER_ACTIONS: _ClassVar[StreamType]

class L4OrderDiffType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    L4_ORDER_DIFF_TYPE_UNSPECIFIED: _ClassVar[L4OrderDiffType]
    L4_ORDER_DIFF_TYPE_NEW: _ClassVar[L4OrderDiffType]
    L4_ORDER_DIFF_TYPE_UPDATE: _ClassVar[L4OrderDiffType]
    L4_ORDER_DIFF_TYPE_REMOVE: _ClassVar[L4OrderDiffType]
UNKNOWN: StreamType
TRADES: StreamType
ORDERS: StreamType
BOOK_UPDATES: StreamType
TWAP: StreamType
EVENTS: StreamType
BLOCKS: StreamType
WRITER_ACTIONS: StreamType
L4_ORDER_DIFF_TYPE_UNSPECIFIED: L4OrderDiffType
L4_ORDER_DIFF_TYPE_NEW: L4OrderDiffType
L4_ORDER_DIFF_TYPE_UPDATE: L4OrderDiffType
L4_ORDER_DIFF_TYPE_REMOVE: L4OrderDiffType

class SubscribeRequest(_message.Message):
    __slots__ = ("subscribe", "ping")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    subscribe: StreamSubscribe
    ping: Ping
    def __init__(self, subscribe: _Optional[_Union[StreamSubscribe, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class StreamSubscribe(_message.Message):
    __slots__ = ("stream_type", "start_block", "filters", "filter_name")
    class FiltersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FilterValues
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FilterValues, _Mapping]] = ...) -> None: ...
    STREAM_TYPE_FIELD_NUMBER: _ClassVar[int]
    START_BLOCK_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    FILTER_NAME_FIELD_NUMBER: _ClassVar[int]
    stream_type: StreamType
    start_block: int
    filters: _containers.MessageMap[str, FilterValues]
    filter_name: str
    def __init__(self, stream_type: _Optional[_Union[StreamType, str]] = ..., start_block: _Optional[int] = ..., filters: _Optional[_Mapping[str, FilterValues]] = ..., filter_name: _Optional[str] = ...) -> None: ...

class FilterValues(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class SubscribeUpdate(_message.Message):
    __slots__ = ("data", "pong")
    DATA_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    data: StreamResponse
    pong: Pong
    def __init__(self, data: _Optional[_Union[StreamResponse, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("block_number", "timestamp", "data")
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    block_number: int
    timestamp: int
    data: str
    def __init__(self, block_number: _Optional[int] = ..., timestamp: _Optional[int] = ..., data: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...

class Timestamp(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...

class PingRequest(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class PingResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("data_json",)
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    data_json: str
    def __init__(self, data_json: _Optional[str] = ...) -> None: ...

class L2BookRequest(_message.Message):
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

class L2BookUpdate(_message.Message):
    __slots__ = ("coin", "time", "block_number", "bids", "asks")
    COIN_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    coin: str
    time: int
    block_number: int
    bids: _containers.RepeatedCompositeFieldContainer[L2Level]
    asks: _containers.RepeatedCompositeFieldContainer[L2Level]
    def __init__(self, coin: _Optional[str] = ..., time: _Optional[int] = ..., block_number: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[L2Level, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[L2Level, _Mapping]]] = ...) -> None: ...

class L2Level(_message.Message):
    __slots__ = ("px", "sz", "n")
    PX_FIELD_NUMBER: _ClassVar[int]
    SZ_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    px: str
    sz: str
    n: int
    def __init__(self, px: _Optional[str] = ..., sz: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class L4BookRequest(_message.Message):
    __slots__ = ("coin",)
    COIN_FIELD_NUMBER: _ClassVar[int]
    coin: str
    def __init__(self, coin: _Optional[str] = ...) -> None: ...

class L4BookUpdate(_message.Message):
    __slots__ = ("snapshot", "diff")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DIFF_FIELD_NUMBER: _ClassVar[int]
    snapshot: L4BookSnapshot
    diff: L4BookDiff
    def __init__(self, snapshot: _Optional[_Union[L4BookSnapshot, _Mapping]] = ..., diff: _Optional[_Union[L4BookDiff, _Mapping]] = ...) -> None: ...

class L4BookSnapshot(_message.Message):
    __slots__ = ("coin", "time", "height", "bids", "asks")
    COIN_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    coin: str
    time: int
    height: int
    bids: _containers.RepeatedCompositeFieldContainer[L4Order]
    asks: _containers.RepeatedCompositeFieldContainer[L4Order]
    def __init__(self, coin: _Optional[str] = ..., time: _Optional[int] = ..., height: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[L4Order, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[L4Order, _Mapping]]] = ...) -> None: ...

class L4BookDiff(_message.Message):
    __slots__ = ("time", "height", "data")
    TIME_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    time: int
    height: int
    data: str
    def __init__(self, time: _Optional[int] = ..., height: _Optional[int] = ..., data: _Optional[str] = ...) -> None: ...

class L4Order(_message.Message):
    __slots__ = ("user", "coin", "side", "limit_px", "sz", "oid", "timestamp", "trigger_condition", "is_trigger", "trigger_px", "is_position_tpsl", "reduce_only", "order_type", "tif", "cloid")
    USER_FIELD_NUMBER: _ClassVar[int]
    COIN_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PX_FIELD_NUMBER: _ClassVar[int]
    SZ_FIELD_NUMBER: _ClassVar[int]
    OID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_CONDITION_FIELD_NUMBER: _ClassVar[int]
    IS_TRIGGER_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_PX_FIELD_NUMBER: _ClassVar[int]
    IS_POSITION_TPSL_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIF_FIELD_NUMBER: _ClassVar[int]
    CLOID_FIELD_NUMBER: _ClassVar[int]
    user: str
    coin: str
    side: str
    limit_px: str
    sz: str
    oid: int
    timestamp: int
    trigger_condition: str
    is_trigger: bool
    trigger_px: str
    is_position_tpsl: bool
    reduce_only: bool
    order_type: str
    tif: str
    cloid: str
    def __init__(self, user: _Optional[str] = ..., coin: _Optional[str] = ..., side: _Optional[str] = ..., limit_px: _Optional[str] = ..., sz: _Optional[str] = ..., oid: _Optional[int] = ..., timestamp: _Optional[int] = ..., trigger_condition: _Optional[str] = ..., is_trigger: _Optional[bool] = ..., trigger_px: _Optional[str] = ..., is_position_tpsl: _Optional[bool] = ..., reduce_only: _Optional[bool] = ..., order_type: _Optional[str] = ..., tif: _Optional[str] = ..., cloid: _Optional[str] = ...) -> None: ...

class BboBookRequest(_message.Message):
    __slots__ = ("coins",)
    COINS_FIELD_NUMBER: _ClassVar[int]
    coins: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, coins: _Optional[_Iterable[str]] = ...) -> None: ...

class BboBookUpdate(_message.Message):
    __slots__ = ("coin", "time", "block_number", "bid", "ask")
    COIN_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    coin: str
    time: int
    block_number: int
    bid: L2Level
    ask: L2Level
    def __init__(self, coin: _Optional[str] = ..., time: _Optional[int] = ..., block_number: _Optional[int] = ..., bid: _Optional[_Union[L2Level, _Mapping]] = ..., ask: _Optional[_Union[L2Level, _Mapping]] = ...) -> None: ...

class L2BookDiffRequest(_message.Message):
    __slots__ = ("coins", "n_levels", "n_sig_figs", "mantissa", "skip_initial_snapshot")
    COINS_FIELD_NUMBER: _ClassVar[int]
    N_LEVELS_FIELD_NUMBER: _ClassVar[int]
    N_SIG_FIGS_FIELD_NUMBER: _ClassVar[int]
    MANTISSA_FIELD_NUMBER: _ClassVar[int]
    SKIP_INITIAL_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    coins: _containers.RepeatedScalarFieldContainer[str]
    n_levels: int
    n_sig_figs: int
    mantissa: int
    skip_initial_snapshot: bool
    def __init__(self, coins: _Optional[_Iterable[str]] = ..., n_levels: _Optional[int] = ..., n_sig_figs: _Optional[int] = ..., mantissa: _Optional[int] = ..., skip_initial_snapshot: _Optional[bool] = ...) -> None: ...

class L2BookDiffUpdate(_message.Message):
    __slots__ = ("time", "height", "snapshot", "diffs")
    TIME_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DIFFS_FIELD_NUMBER: _ClassVar[int]
    time: int
    height: int
    snapshot: bool
    diffs: _containers.RepeatedCompositeFieldContainer[L2CoinDiff]
    def __init__(self, time: _Optional[int] = ..., height: _Optional[int] = ..., snapshot: _Optional[bool] = ..., diffs: _Optional[_Iterable[_Union[L2CoinDiff, _Mapping]]] = ...) -> None: ...

class L2CoinDiff(_message.Message):
    __slots__ = ("coin", "seq", "prev_seq", "bids", "asks", "snapshot")
    COIN_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PREV_SEQ_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    coin: str
    seq: int
    prev_seq: int
    bids: _containers.RepeatedCompositeFieldContainer[L2Level]
    asks: _containers.RepeatedCompositeFieldContainer[L2Level]
    snapshot: bool
    def __init__(self, coin: _Optional[str] = ..., seq: _Optional[int] = ..., prev_seq: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[L2Level, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[L2Level, _Mapping]]] = ..., snapshot: _Optional[bool] = ...) -> None: ...

class L4BookUpdatesRequest(_message.Message):
    __slots__ = ("coins",)
    COINS_FIELD_NUMBER: _ClassVar[int]
    coins: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, coins: _Optional[_Iterable[str]] = ...) -> None: ...

class L4BookUpdatesUpdate(_message.Message):
    __slots__ = ("time", "height", "diffs", "snapshot")
    TIME_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DIFFS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    time: int
    height: int
    diffs: _containers.RepeatedCompositeFieldContainer[L4OrderDiff]
    snapshot: bool
    def __init__(self, time: _Optional[int] = ..., height: _Optional[int] = ..., diffs: _Optional[_Iterable[_Union[L4OrderDiff, _Mapping]]] = ..., snapshot: _Optional[bool] = ...) -> None: ...

class L4OrderDiff(_message.Message):
    __slots__ = ("diff_type", "coin", "oid", "user", "side", "px", "sz")
    DIFF_TYPE_FIELD_NUMBER: _ClassVar[int]
    COIN_FIELD_NUMBER: _ClassVar[int]
    OID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PX_FIELD_NUMBER: _ClassVar[int]
    SZ_FIELD_NUMBER: _ClassVar[int]
    diff_type: L4OrderDiffType
    coin: str
    oid: int
    user: str
    side: str
    px: str
    sz: str
    def __init__(self, diff_type: _Optional[_Union[L4OrderDiffType, str]] = ..., coin: _Optional[str] = ..., oid: _Optional[int] = ..., user: _Optional[str] = ..., side: _Optional[str] = ..., px: _Optional[str] = ..., sz: _Optional[str] = ...) -> None: ...
