"""The Celery application: `celery -A relay_site worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")

app = Celery("relay_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Django has set up logging; a receiver here keeps Celery from adding handlers that know no
    redaction.
    """


@signals.worker_ready.connect
def _serve_metrics(**_: Any) -> None:
    """Metrics appear once the worker consumes, so that their port tells when it does."""
    from relay_site.metrics import serve_metrics

    serve_metrics(int(os.environ.get("RELAY_METRICS_PORT", "0") or 0))


@signals.beat_embedded_init.connect
def _die_with_worker(**_: Any) -> None:
    """The embedded beat is a process of its own, which would outlive a worker that was killed."""
    from relay_site.processes import die_with_parent

    die_with_parent()
