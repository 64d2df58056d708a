"""What is announced again in the background ends with its process, without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDING = """
import atexit, io, logging, time
atexit.register(time.sleep, 1.0)  # an interpreter that takes its time; runs after what comes later
import django
django.setup()
from tenants.admission import changes

tries = []

def fail(chunk):
    tries.append(chunk)
    time.sleep(0.05)
    raise OSError

changes._rewrite_entries = changes._ring = fail
changes.RETRY_AFTER_S = changes.RETRY_AT_MOST_AFTER_S = 0.01
changes.announce(["digest"])
while len(tries) < 4:
    time.sleep(0.01)
stream = io.StringIO()
logging.getLogger().handlers[:] = [logging.StreamHandler(stream)]
stream.close()
"""


def test_an_ending_process_stops_trying_and_is_silent(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING],
        env={
            "DJANGO_SETTINGS_MODULE": "relay_site.settings",
            "RELAY_VAR": str(tmp_path),
            "PATH": "",
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "closed file" not in done.stderr
