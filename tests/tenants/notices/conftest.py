"""Customers' servers on loopback, which only a relay that allows private targets reaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.tenants.notices.receiver import Receiver


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """A customer's server that answers 200 until a test gives it another `script`."""
    settings.RELAY_WEBHOOKS_PRIVATE = True
    with Receiver() as server:
        yield server
