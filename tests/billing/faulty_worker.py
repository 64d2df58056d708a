"""A real Celery worker that dies by its own hand (SIGKILL) at the step named by `DIE_AT`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _die(*arguments: Any, **options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from relay_site.celery import app

    app.loader.import_default_modules()
    from billing import tasks
    from billing.metering import ingest

    match os.environ.get("DIE_AT"):
        case "before-commit":
            ingest._add = _die  # type: ignore[assignment]
        case "before-acknowledge":
            tasks.acknowledge = _die  # type: ignore[assignment]
    app.worker_main(
        ["worker", "--pool=solo", "--loglevel=WARNING", "--without-gossip", *sys.argv[1:]]
    )


if __name__ == "__main__":
    main()
