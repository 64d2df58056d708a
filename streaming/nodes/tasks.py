"""Celery's doors into the data plane's tables."""

from __future__ import annotations

import structlog
from celery import shared_task
from django.db import OperationalError

from streaming.nodes import ingest
from streaming.nodes.live import Unreachable

log = structlog.get_logger(__name__)


@shared_task(ignore_result=True)
def ingest_gaps() -> None:
    """Move waiting gap reports into the ledger. What fails now is still there at the next beat."""
    try:
        ingest.ingest_waiting()
    except (Unreachable, OperationalError) as error:
        log.warning("gaps_not_ingested", error=str(error))
