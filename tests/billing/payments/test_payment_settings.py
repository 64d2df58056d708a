"""Without a provider nothing is needed; with one, what is missing is said before the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from billing.payments.readiness import stripe_problems
from tests.support.migrated import copy_migrated
from tests.support.relay import ROOT

WITHOUT_LIBRARY = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "stripe":
            raise ModuleNotFoundError("No module named 'stripe'", name="stripe")

sys.meta_path.insert(0, Absent())
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "relay_site.settings"
import django
django.setup()
import billing.tasks, billing.admin, relay_site.urls
from billing.payments.chosen import provider
from django.core.management import call_command
call_command("check")
call_command("migrate", verbosity=0)
billing.tasks.charge_invoices()
billing.tasks.process_payment_events()
from django.test import Client
answer = Client().post("/webhooks/stripe/", headers={"host": "localhost"})
print(provider().name, answer.status_code)
assert "stripe" not in sys.modules
"""


def run(tmp_path: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "RELAY_VAR": str(tmp_path)} | variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_without_the_library(tmp_path: Path) -> None:
    copy_migrated(
        tmp_path / "relay.sqlite3"
    )  # so that `migrate` there has nothing left but to look
    done = run(tmp_path, WITHOUT_LIBRARY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["manual", "404"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("topsecret\n")
    done = run(
        tmp_path,
        "import os, django; django.setup()",
        DJANGO_SETTINGS_MODULE="relay_site.settings",
        RELAY_PAYMENTS="stripe",
        STRIPE_SECRET_KEY_FILE=str(secret),
        STRIPE_API_BASE="http://stripe.example",
    )
    assert done.returncode == 2
    names = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert names == ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_API_BASE"]
    assert "topsecret" not in done.stderr


def test_good_settings() -> None:
    good = {"secret_key": "sk_live_x", "webhook_secret": "whsec_x"}
    for base in ("", "https://api.stripe.com", "http://127.0.0.1:9"):
        assert stripe_problems(**good, api_base=base) == []
