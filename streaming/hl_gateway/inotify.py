"""Linux inotify through ctypes: the wake-up of the tailer, about 20 µs after a write.

Only what the tailer needs. A library for it would be the one compiled dependency of the gateway
process.
"""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag
from typing import NamedTuple


class Mask(IntFlag):
    """Event bits, as in `<sys/inotify.h>`."""

    MODIFY = 0x0000_0002
    ATTRIB = 0x0000_0004
    MOVED_FROM = 0x0000_0040
    MOVED_TO = 0x0000_0080
    CREATE = 0x0000_0100
    DELETE = 0x0000_0200
    DELETE_SELF = 0x0000_0400
    MOVE_SELF = 0x0000_0800
    Q_OVERFLOW = 0x0000_4000
    IGNORED = 0x0000_8000
    ONLYDIR = 0x0100_0000


#: Events that mean the set of files or directories changed, so that looking at the known files is
#: not enough.
LAYOUT = ~Mask.MODIFY

_WATCHED = (
    Mask.MODIFY | Mask.ATTRIB | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.CREATE | Mask.DELETE
    | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
)  # fmt: skip
_HEADER = struct.Struct("iIII")
_READ_BYTES = 64 * 1024


class Event(NamedTuple):
    """One kernel event: the directory it concerns (empty after an overflow), its bits, the name
    inside.
    """

    directory: str
    mask: int
    name: str


class Inotify:
    """Watches directories for changes of themselves and of the files in them.

    Raises:
        OSError: the kernel refuses an instance (`fs.inotify.max_user_instances`) or has no inotify.
    """

    def __init__(self) -> None:
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._init, self._add = self._libc.inotify_init1, self._libc.inotify_add_watch
            self._remove = self._libc.inotify_rm_watch
        except AttributeError as error:
            raise OSError("this system has no inotify") from error
        self._fd = self._checked(self._init(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
        self._directories: dict[int, str] = {}
        self._watches: dict[str, int] = {}

    def fileno(self) -> int:
        """The descriptor that becomes readable when an event waits."""
        return self._fd

    @property
    def directories(self) -> frozenset[str]:
        """What is watched now. A deleted directory leaves by itself once its event is read."""
        return frozenset(self._watches)

    def watch(self, directory: str) -> None:
        """Watch `directory`; a directory that was replaced under the same name gets a new watch.

        Raises:
            OSError: it is missing, no directory, unreadable, or the limit of watches is reached.
        """
        wd = self._checked(
            self._add(self._fd, os.fsencode(directory), ctypes.c_uint32(_WATCHED)), directory
        )
        self._forget(directory)
        self._directories[wd], self._watches[directory] = directory, wd

    def unwatch(self, directory: str) -> None:
        """Stop watching; nothing happens when it was not watched."""
        wd = self._watches.get(directory)
        if wd is not None:
            self._remove(self._fd, wd)
            self._forget(directory)

    def read(self) -> list[Event]:
        """All waiting events, oldest first; empty when there are none."""
        events: list[Event] = []
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return events
            self._parse(data, into=events)
            if len(data) < _READ_BYTES // 2:
                # The queue was drained; what comes after makes the descriptor readable again.
                return events

    def close(self) -> None:
        """Give the descriptor back; the kernel drops all watches."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _parse(self, data: bytes, *, into: list[Event]) -> None:
        offset = 0
        while offset < len(data):
            wd, mask, _cookie, name_bytes = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + name_bytes].rstrip(b"\0")
            offset += name_bytes
            into.append(Event(self._directories.get(wd, ""), mask, os.fsdecode(name)))
            if mask & Mask.IGNORED and wd in self._directories:
                self._forget(self._directories[wd])

    def _forget(self, directory: str) -> None:
        wd = self._watches.pop(directory, None)
        if wd is not None:
            self._directories.pop(wd, None)

    @staticmethod
    def _checked(result: int, what: str) -> int:
        if result < 0:
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno), what)
        return result
