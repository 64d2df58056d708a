"""Protobuf's wire form, as far as it is written by hand: what is the same for all customers is made
once, and what is not is a few bytes before it.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

VARINT, BYTES = 0, 2


def varint(value: int) -> bytes:
    """A whole number from 0 to 2^64-1."""
    if value < 0x80:
        return _SMALL[value]
    if value < 0x4000:  # lengths, nearly all
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = tuple(bytes((value,)) for value in range(0x80))


def tag(number: int, kind: int) -> bytes:
    """What stands before a field's value."""
    return varint(number << 3 | kind)


def number_field(number: int, value: int) -> bytes:
    """A number or a bool; nothing for 0, which is what is not there."""
    return tag(number, VARINT) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A string, bytes or a message; nothing when it is empty."""
    return tag(number, BYTES) + varint(len(value)) + value if value else b""


def message_field(number: int, value: bytes) -> bytes:
    """The same, of a message or of one choice of several: there also when it is empty."""
    return tag(number, BYTES) + varint(len(value)) + value
