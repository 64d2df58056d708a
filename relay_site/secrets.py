"""Secrets that a fresh clone makes for itself, each in a file only its owner can read."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

MODE = 0o600


def write_private(path: Path, text: str) -> None:
    """Put `text` at `path`, mode 0600, whole or not at all: readers see the old file or the new
    one.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def keep_secret(path: Path) -> str:
    """The secret kept at `path`, made on first use: 64 characters of base64url.

    Two processes that ask at the same moment get the same one. Where the folder cannot be written
    the secret lives as long as the process; `manage.py up` has refused such a folder before.
    """
    with contextlib.suppress(OSError):
        if kept := path.read_text("utf-8").strip():
            return kept
    fresh = secrets.token_urlsafe(48)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write_private(draft, fresh)
        # A hard link fails if another process was first; a rename would replace its secret.
        os.link(draft, path)
    except FileExistsError:
        return path.read_text("utf-8").strip()
    except OSError:
        return fresh
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return fresh


def read_json(path: Path) -> dict[str, Any]:
    """The object at `path`, or an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
