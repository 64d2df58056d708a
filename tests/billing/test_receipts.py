"""A customer can check a month's receipts with the script we ship, and finds any change."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from billing.metering import chain
from billing.models import LedgerSeal
from tenants import services
from tests.billing.usage import HOUR, use
from tests.tenants.cast import Cast

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_receipts.py"
NEXT_MONTH = 24 * 8


def verify(path: Path, *head: str) -> dict[str, object] | None:
    """What the script says; None when it refuses. In this process, which is faster a hundred
    times."""
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a script may leave its file to the end
        patch.setattr(sys, "argv", [str(SCRIPT), str(path), *head])
        try:
            runpy.run_path(str(SCRIPT))
        except (Exception, SystemExit):
            assert out.getvalue() == ""
            return None
    return json.loads(out.getvalue().removeprefix("verified: "))  # type: ignore[no-any-return]


def export(path: Path, month: str) -> list[str]:
    out = StringIO()
    options = ["--tenant=acme", f"--month={month}", f"--out={path}"]
    call_command("export_receipts", *options, stdout=out)
    lines = path.read_text().splitlines()
    assert out.getvalue() == f"{path}: {len(lines)} lines\n"
    return lines


@pytest.fixture
def used(cast: Cast) -> Cast:
    """November 23rd, December 1st, and a late batch of November; each sealed in its turn."""
    ada = services.issue_key(tenant=cast.acme, name="bot").key.pk
    cleo = services.issue_key(tenant=cast.other, name="bot").key.pk
    for seq, (key, messages, hours) in enumerate(
        [(ada, 5, 0), (cleo, 99, 0), (ada, 7, NEXT_MONTH), (ada, 1, NEXT_MONTH + 1), (ada, 3, 2)],
        start=1,
    ):
        use(key, messages, seq=seq, hours=hours)
        chain.seal_ledger(HOUR + timedelta(hours=NEXT_MONTH + seq))
    return cast


def test_the_totals_are_those_of_the_month_also_of_what_came_late(
    used: Cast, tmp_path: Path
) -> None:
    november = export(tmp_path / "november", "2026-11")
    head = LedgerSeal.objects.for_tenant(used.acme).order_by("number").last()
    assert head is not None
    summary = {
        "head_sha256": head.sha256,
        "month": "2026-11",
        "tenant": used.acme.pk,
        "totals": [["bytes", "bbo", "", 80], ["messages", "bbo", "", 8]],
        "v": 1,
    }
    assert verify(tmp_path / "november", head.sha256) == summary
    assert verify(tmp_path / "november") == summary
    assert verify(tmp_path / "november", "0" * 64) is None
    for receipts, code in ((tmp_path / "november", 0), (SCRIPT, 1)):
        command = [sys.executable, "-I", str(SCRIPT), str(receipts)]
        assert subprocess.run(command, check=False, capture_output=True).returncode == code
    # December's seals in between come without entries: 2 × 2 entries, 4 seals, a summary.
    assert len(november) == 4 + 4 + 1

    export(tmp_path / "december", "2026-12")
    december = verify(tmp_path / "december")
    assert december is not None
    assert december["totals"] == [["bytes", "bbo", "", 80], ["messages", "bbo", "", 8]]
    export(tmp_path / "january", "2027-01")
    january = verify(tmp_path / "january")
    assert january is not None
    assert january["totals"] == []


def test_each_month_verifies_with_the_head_that_is_shown(cast: Cast, tmp_path: Path) -> None:
    """November's receipts, asked for once December is sealed, and those of a month without use."""
    key = services.issue_key(tenant=cast.acme, name="bot").key.pk

    def verified(month: str) -> object:
        export(tmp_path / month, month)
        shown = LedgerSeal.objects.for_tenant(cast.acme).order_by("number").last()
        summary = verify(tmp_path / month, shown.sha256 if shown else "0" * 64)
        return summary and summary["totals"]

    november = [["bytes", "bbo", "", 50], ["messages", "bbo", "", 5]]
    assert verified("2026-11") == []
    use(key, 5, seq=1)
    chain.seal_ledger(HOUR)
    assert verified("2026-11") == november
    use(key, 7, seq=2, hours=NEXT_MONTH)
    chain.seal_ledger(HOUR + timedelta(hours=NEXT_MONTH))
    assert verified("2026-11") == november
    assert verified("2026-12") == [["bytes", "bbo", "", 70], ["messages", "bbo", "", 7]]
    assert verified("2027-01") == []


def test_seals_of_before_lines_had_a_version_are_in_one_chain_with_those_of_after(
    cast: Cast, tmp_path: Path
) -> None:
    key = services.issue_key(tenant=cast.acme, name="bot").key.pk
    with pytest.MonkeyPatch.context() as before:
        before.setattr(chain, "_versioned", lambda line, version: chain.json_line(line))
        line_of = chain.entry_line
        before.setattr(chain, "entry_line", lambda entry, version: line_of(entry, 0))
        use(key, 5, seq=1)
        chain.seal_ledger(HOUR)
    use(key, 3, seq=2, hours=1)
    chain.seal_ledger(HOUR + timedelta(hours=1))

    first, second = LedgerSeal.objects.for_tenant(cast.acme).order_by("number")
    assert (chain.version_of(first), chain.version_of(second)) == (0, 1)
    assert list(chain.faults(first.account)) == []
    lines = export(tmp_path / "november", "2026-11")
    assert [json.loads(line).get("v", 0) for line in lines] == [0, 0, 0, 1, 1, 1, 1]
    assert verify(tmp_path / "november", second.sha256) is not None
    (tmp_path / "newer").write_text("\n".join(lines).replace('"v":1', '"v":2') + "\n")
    assert verify(tmp_path / "newer") is None


def test_any_changed_value_is_refused(used: Cast, tmp_path: Path) -> None:
    lines = export(tmp_path / "receipts", "2026-11")
    changed = tmp_path / "changed"
    for place, text in enumerate(lines):
        for name, value in json.loads(text).items():
            if name == "tenant" and place == len(lines) - 1:
                continue  # just a name for whoever reads it; the seals hold the one that counts
            other = value + 1 if isinstance(value, int) else [] if name == "totals" else f"{value}1"
            line = chain.json_line({**json.loads(text), name: other})
            changed.write_text("\n".join([*lines[:place], line, *lines[place + 1 :]]) + "\n")
            assert verify(changed) is None, (place, name)


@pytest.mark.parametrize("place", range(9))
def test_a_missing_or_repeated_line_is_refused(used: Cast, tmp_path: Path, place: int) -> None:
    lines = export(tmp_path / "receipts", "2026-11")
    changed = tmp_path / "changed"
    for edited in (lines[:place] + lines[place + 1 :], lines[: place + 1] + lines[place:]):
        changed.write_text("\n".join(edited) + "\n")
        assert verify(changed) is None


def test_all_entries_of_a_seal_cannot_be_left_out(used: Cast, tmp_path: Path) -> None:
    lines = export(tmp_path / "receipts", "2026-11")
    summary = json.loads(lines[-1])
    summary["totals"] = [["bytes", "bbo", "", 30], ["messages", "bbo", "", 3]]
    (tmp_path / "changed").write_text("\n".join([*lines[2:-1], chain.json_line(summary)]) + "\n")
    assert verify(tmp_path / "changed") is None


def test_the_command_says_what_is_wrong(used: Cast, tmp_path: Path) -> None:
    for options, reason in (
        ({"tenant": "nobody", "month": "2026-11", "out": tmp_path / "a"}, "no tenant has the slug"),
        ({"tenant": "acme", "month": "2026-11", "out": tmp_path / "no" / "a"}, "No such file"),
        ({"tenant": "acme", "month": "November", "out": tmp_path / "a"}, "not a month like"),
    ):
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with pytest.raises(CommandError, match=reason):
            call_command("export_receipts", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_script_is_short_and_needs_nothing() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 40
    imported = {
        line.split()[1] for line in text.splitlines() if line.startswith(("import", "from"))
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("data", [b"", b"\n", b"{}", b"[]", b"nonsense", b"\xff\xfe"])
def test_nonsense_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "nonsense").write_bytes(data)
    assert verify(tmp_path / "nonsense") is None
