"""A real Celery worker; with `DIE_AT=record` it kills itself (SIGKILL) once a webhook is sent,
before anything is written down."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _die(*arguments: Any, **options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from datetime import timedelta

    from relay_site.celery import app

    app.loader.import_default_modules()
    from tenants.notices import sending

    sending.CLAIM = timedelta(seconds=float(os.environ["CLAIM_S"]))
    if os.environ.get("DIE_AT") == "record":
        sending.record = _die  # type: ignore[assignment]
    app.conf.beat_schedule = {"webhooks": {"task": "tenants.tasks.send_webhooks", "schedule": 0.5}}
    app.worker_main(
        ["worker", "-B", "--pool=solo", "--loglevel=WARNING", "--without-gossip", *sys.argv[1:]]
    )


if __name__ == "__main__":
    main()
