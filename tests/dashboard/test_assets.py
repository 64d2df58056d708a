"""What pages load is what was built, is ours, and is little."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import gateway.dashboard

STATIC = Path(gateway.dashboard.__file__).parent / "static" / "dashboard"
FIRST_LOAD_BYTES = 200 * 1024


def _listed() -> dict[str, str]:
    lines = (STATIC / "CHECKSUMS").read_text("utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def test_what_was_vendored_and_built_is_unchanged() -> None:
    for name, digest in _listed().items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, (
            f"{name} is not what CHECKSUMS says: run `make assets`"
        )


def test_nothing_is_vendored_that_is_not_listed() -> None:
    vendored = {
        str(path.relative_to(STATIC)) for path in (STATIC / "vendor").rglob("*") if path.is_file()
    }
    assert vendored == {name for name in _listed() if name.startswith("vendor/")}


def test_the_first_load_is_small() -> None:
    """Everything that any page may load, charts too."""
    files = [path for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".svg", ".woff2"}]
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in files}
    assert sum(sizes.values()) <= FIRST_LOAD_BYTES, sizes


def test_own_files_name_no_other_host() -> None:
    for name in ("app.css", "app.js"):
        text = (STATIC / name).read_text("utf-8")
        assert "url(http" not in text
        assert "@import" not in text
