from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KindFrom(_message.Message):
    __slots__ = ("kind", "height")
    KIND_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    height: int
    def __init__(self, kind: _Optional[str] = ..., height: _Optional[int] = ...) -> None: ...

class StreamBlocksRequest(_message.Message):
    __slots__ = ("kinds", "history", "open_fills")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILLS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedCompositeFieldContainer[KindFrom]
    history: _containers.RepeatedScalarFieldContainer[str]
    open_fills: bool
    def __init__(self, kinds: _Optional[_Iterable[_Union[KindFrom, _Mapping]]] = ..., history: _Optional[_Iterable[str]] = ..., open_fills: _Optional[bool] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("kind", "height", "lines", "read_ns", "previous", "late", "ending")
    KIND_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    READ_NS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    kind: str
    height: int
    lines: _containers.RepeatedScalarFieldContainer[bytes]
    read_ns: int
    previous: int
    late: bool
    ending: int
    def __init__(self, kind: _Optional[str] = ..., height: _Optional[int] = ..., lines: _Optional[_Iterable[bytes]] = ..., read_ns: _Optional[int] = ..., previous: _Optional[int] = ..., late: _Optional[bool] = ..., ending: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("kind", "oldest", "resumed", "newest")
    KIND_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    kind: str
    oldest: int
    resumed: bool
    newest: int
    def __init__(self, kind: _Optional[str] = ..., oldest: _Optional[int] = ..., resumed: _Optional[bool] = ..., newest: _Optional[int] = ...) -> None: ...

class StreamBlocksResponse(_message.Message):
    __slots__ = ("blocks", "history", "starts", "open")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    history: bool
    starts: _containers.RepeatedCompositeFieldContainer[Start]
    open: Block
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., history: _Optional[bool] = ..., starts: _Optional[_Iterable[_Union[Start, _Mapping]]] = ..., open: _Optional[_Union[Block, _Mapping]] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointResponse(_message.Message):
    __slots__ = ("height", "size_bytes", "chunk")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    height: int
    size_bytes: int
    chunk: bytes
    def __init__(self, height: _Optional[int] = ..., size_bytes: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("status", "body")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class EvmRequest(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...

class EvmResponse(_message.Message):
    __slots__ = ("status", "body")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KindStatus(_message.Message):
    __slots__ = ("kind", "mode", "height", "seen_height", "oldest", "held_blocks", "held_bytes", "max_bytes", "silent_s", "lag_s", "backlog_bytes", "read_bytes", "faults")
    class FaultsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SEEN_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    HELD_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    SILENT_S_FIELD_NUMBER: _ClassVar[int]
    LAG_S_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    mode: str
    height: int
    seen_height: int
    oldest: int
    held_blocks: int
    held_bytes: int
    max_bytes: int
    silent_s: float
    lag_s: float
    backlog_bytes: int
    read_bytes: int
    faults: _containers.ScalarMap[str, int]
    def __init__(self, kind: _Optional[str] = ..., mode: _Optional[str] = ..., height: _Optional[int] = ..., seen_height: _Optional[int] = ..., oldest: _Optional[int] = ..., held_blocks: _Optional[int] = ..., held_bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ..., silent_s: _Optional[float] = ..., lag_s: _Optional[float] = ..., backlog_bytes: _Optional[int] = ..., read_bytes: _Optional[int] = ..., faults: _Optional[_Mapping[str, int]] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("kinds", "clients", "up_s", "memory_bytes", "clients_cut")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    UP_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_CUT_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedCompositeFieldContainer[KindStatus]
    clients: int
    up_s: float
    memory_bytes: int
    clients_cut: int
    def __init__(self, kinds: _Optional[_Iterable[_Union[KindStatus, _Mapping]]] = ..., clients: _Optional[int] = ..., up_s: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., clients_cut: _Optional[int] = ...) -> None: ...
