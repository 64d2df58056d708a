"""Answers that may be given again, bounded in bytes and entries; the least used go first. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

MAX_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 20_000
#: What an entry takes beside its body and key, about.
ENTRY_BYTES = 600


class Kept(Protocol):
    """What is kept."""

    @property
    def size_bytes(self) -> int:
        """Of its body."""


T = TypeVar("T", bound=Kept)


class Cache(Generic[T]):
    """By key. It knows no time: whoever reads judges the age."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._entries: OrderedDict[bytes, T] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> T | None:
        """What is kept for `key`; it is the last to go now."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: bytes, value: T) -> None:
        """Keep `value` in the place of what was kept for `key`. What is larger than a quarter of
        all is not kept: it would push out everything else."""
        self.drop(key)
        size = _size(key, value)
        if size > self._max_bytes // 4:
            return
        self._entries[key] = value
        self.size_bytes += size
        while self.size_bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self.drop(next(iter(self._entries)))

    def drop(self, key: bytes) -> None:
        """Forget what is kept for `key`, if anything."""
        found = self._entries.pop(key, None)
        if found is not None:
            self.size_bytes -= _size(key, found)


def _size(key: bytes, value: Kept) -> int:
    return ENTRY_BYTES + len(key) + value.size_bytes
