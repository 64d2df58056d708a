"""Every snippet of every page can at least be read; what can be run is run by its own test."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.docsite import pages
from tests.clients.environments import node_command, node_environment
from tests.conftest import skip
from tests.docsite.snippets import FENCE, ROOT
from tests.docsite.test_quickstart import lines_of
from tests.support.services import Missing


class Snippet(NamedTuple):
    page: str
    language: str
    code: str


def _all() -> list[Snippet]:
    sources = {page.source for page in pages.all_pages()} | {"README.md", "README.zh-hant.md"}
    sources |= {name for s in sources if (ROOT / (name := pages.translated(s))).exists()}
    return [
        Snippet(source, language, code)
        for source in sorted(sources)
        for language, _, code in FENCE.findall((ROOT / source).read_text("utf-8"))
    ]


SNIPPETS = _all()


def of(*languages: str) -> Any:
    found = [each for each in SNIPPETS if each.language in languages]
    ids = [f"{Path(each.page).stem}-{n}" for n, each in enumerate(found)]
    return pytest.mark.parametrize("snippet", found, ids=ids)


def test_every_language_is_looked_at() -> None:
    """A new one wants a reader here."""
    known = {"python", "json", "sh", "go", "ts", "text"}
    assert {each.language for each in SNIPPETS} <= known


@of("python")
def test_python(snippet: Snippet) -> None:
    ast.parse(snippet.code)


@of("json")
def test_json(snippet: Snippet) -> None:
    """`…` stands for what is left out."""
    bare = re.sub(r'("[^"\n]*")|…', lambda m: m[1] or "null", snippet.code)
    bare = re.sub(r",\s*null(?=\s*[}\]])", "", bare)
    json.loads(bare)


@of("sh")
def test_shell(snippet: Snippet) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=snippet.code, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@of("go")
def test_go(snippet: Snippet) -> None:
    gofmt = shutil.which("gofmt")
    if gofmt is None:
        skip("gofmt is not here (golang-go)")
    done = subprocess.run(
        [str(gofmt), "-e"], input=snippet.code, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.relay
@pytest.mark.timeout(600)
def test_the_typescript_of_grpc_follows_trades(relay: dict[str, Any]) -> None:
    """As it stands on the page, with the relay's own address, from the repository's folder."""
    try:
        folder = node_environment("grpc_js")
        command = node_command()
    except Missing as missing:
        skip(str(missing))
        raise
    (code,) = [s.code for s in SNIPPETS if s.page == "docs/grpc.md" and s.language == "ts"]
    source, program = folder / "follow.ts", folder / "follow.mjs"
    source.write_text(code.replace("127.0.0.1:50051", relay["grpc"]))
    transpile = [*command, str(folder / "transpile.mjs"), str(source), str(program)]
    subprocess.run(transpile, check=True, timeout=60)
    found, said = lines_of(
        [*command, str(program)],
        lambda line: '"channel":"trades"' in line,
        cwd=ROOT,
        env={"HLR_KEY": relay["api_key"]},
    )
    assert found, said[-2_000:]
