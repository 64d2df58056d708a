"""Acme with a key, on plain terms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from billing.invoicing import terms_port
from tenants import services
from tenants.models import APIKey
from tests.billing.invoicing.books import PlainBook
from tests.tenants.cast import Cast


@pytest.fixture
def book() -> Iterator[PlainBook]:
    plain = PlainBook()
    with terms_port.use(plain):
        yield plain


@pytest.fixture
def key(cast: Cast) -> APIKey:
    return services.issue_key(tenant=cast.acme, name="bot").key
