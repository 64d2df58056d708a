"""docs/http.md says what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.evm.blocks import MAX_LOG_BLOCKS
from gateway.evm.jsonrpc import MAX_BATCH
from gateway.evm.methods import METHODS
from gateway.http.routes import ROUTES

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """First cell to the names in code of the second, of the table under a heading row."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    found = re.findall(r"^\| ([^|]+) \| (.+) \|$", table, re.MULTILINE)
    return {first: re.findall(r"`(\w+)`", second) for first, second in found}


def test_how_long_answers_are_kept() -> None:
    table = rows("kept for | types")
    for text, kinds in table.items():
        for kind in kinds:
            assert f"{ROUTES[kind].ttl_s:g} s" == text, kind
    assert len(table) == 7


def test_what_methods_weigh() -> None:
    table = rows("weight | methods")
    for weight, methods in table.items():
        for method in methods:
            assert METHODS[method].weight == int(weight), method
    assert len(table) == 5


def test_limits() -> None:
    assert f"at most {MAX_BATCH} calls" in PAGE
    assert f"at most {MAX_LOG_BLOCKS:,} blocks" in PAGE
