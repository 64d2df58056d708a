"""Fixtures of metering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.tenants.cast import Cast, make_cast, operator_client


@pytest.fixture
def cast(db: None) -> Cast:
    """Acme and the others, in a transaction that is rolled back."""
    return make_cast()


@pytest.fixture
def committed_cast(transactional_db: None) -> Cast:
    """The same, committed, for tests in which other threads or processes look."""
    return make_cast()


@pytest.fixture
def operator(db: None, settings: Any, tmp_path: Path) -> Client:
    """A browser in which an operator is logged in."""
    settings.STATIC_ROOT = str(tmp_path)  # WhiteNoise warns of a folder that is not there
    return operator_client()
