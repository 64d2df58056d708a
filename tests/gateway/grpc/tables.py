"""The two other providers' surfaces as their tables name and number them, made into clients without
a proto file of ours."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int64": _F.TYPE_INT64,
    "int32": _F.TYPE_INT32,
    "uint64": _F.TYPE_UINT64,
    "uint32": _F.TYPE_UINT32,
    "bytes": _F.TYPE_BYTES,
    "string": _F.TYPE_STRING,
    "bool": _F.TYPE_BOOL,
}

#: Message → its fields, `number type name`; `|` before a number: one of several.
Table = dict[str, str]

DWELLIR_V1: Table = {
    "Timestamp": "1 int64 timestamp",
    "Block": "1 bytes data",
    "BlockFills": "1 bytes data",
}
DWELLIR_V2: Table = {
    "Position": "|1 int64 timestamp_ms, |2 int64 block_height",
    "Block": "1 bytes data",
    "BlockFills": "1 bytes data",
}
QUICKNODE: Table = {
    "FilterValues": "1 *string values",
    "Entry": "1 string key, 2 FilterValues value",  # of the map
    "StreamSubscribe": "1 int32 stream_type, 2 uint64 start_block, 3 *Entry filters,"
    " 4 string filter_name",
    "Ping": "1 int64 timestamp",
    "Pong": "1 int64 timestamp",
    "SubscribeRequest": "|1 StreamSubscribe subscribe, |3 Ping ping",
    "StreamResponse": "1 uint64 block_number, 2 uint64 timestamp, 3 string data",
    "SubscribeUpdate": "|1 StreamResponse data, |2 Pong pong",
    "PingRequest": "1 int32 count",
    "PingResponse": "1 int32 count",
    "L2Level": "1 string px, 2 string sz, 3 uint32 n",
    "L2BookRequest": "1 string coin, 2 uint32 n_levels, 3 uint32 n_sig_figs, 4 uint64 mantissa",
    "BboBookRequest": "1 *string coins",
    "BboBookUpdate": "1 string coin, 2 uint64 time, 3 uint64 block_number, 4 L2Level bid,"
    " 5 L2Level ask",
    "L2BookDiffRequest": "1 *string coins, 2 uint32 n_levels, 3 uint32 n_sig_figs,"
    " 4 uint64 mantissa, 5 bool skip_initial_snapshot",
    "L2CoinDiff": "1 string coin, 2 uint64 seq, 3 uint64 prev_seq, 4 *L2Level bids,"
    " 5 *L2Level asks, 6 bool snapshot",
    "L2BookDiffUpdate": "1 uint64 time, 2 uint64 height, 3 bool snapshot, 4 *L2CoinDiff diffs",
    "L4BookUpdatesRequest": "1 *string coins",
    "L4OrderDiff": "1 int32 diff_type, 2 string coin, 3 uint64 oid, 4 string user, 5 string side,"
    " 6 string px, 7 string sz",
    "L4BookUpdatesUpdate": "1 uint64 time, 2 uint64 height, 3 *L4OrderDiff diffs, 4 bool snapshot",
    "L2BookUpdate": "1 string coin, 2 uint64 time, 3 uint64 block_number, 4 *L2Level bids,"
    " 5 *L2Level asks",
    "L4BookRequest": "1 string coin",
    "L4Order": "1 string user, 2 string coin, 3 string side, 4 string limit_px, 5 string sz,"
    " 6 uint64 oid, 7 uint64 timestamp, 13 string order_type, 14 string tif",
    "L4BookSnapshot": "1 string coin, 2 uint64 time, 3 uint64 height, 4 *L4Order bids,"
    " 5 *L4Order asks",
    "L4BookDiff": "1 uint64 time, 2 uint64 height, 3 string data",
    "L4BookUpdate": "|1 L4BookSnapshot snapshot, |2 L4BookDiff diff",
}


def classes(package: str, table: Table) -> dict[str, Any]:
    """Message classes by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.tables", package=package, syntax="proto3"
    )
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        if "|" in fields:
            message.oneof_decl.add(name="one")
        for text in fields.split(","):
            number, kind, field_name = text.strip().lstrip("|").split()
            field = message.field.add(name=field_name, number=int(number))
            field.label = _F.LABEL_REPEATED if kind.startswith("*") else _F.LABEL_OPTIONAL
            kind = kind.lstrip("*")
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = _F.TYPE_MESSAGE, f".{package}.{kind}"
            if text.strip().startswith("|"):
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in table
    }
