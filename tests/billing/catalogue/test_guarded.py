"""What was published or decided stays: models, querysets and the database refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, models, transaction

from billing.append_only import AppendOnlyError
from billing.models import (
    AddOn,
    AddOnVersion,
    BillingAnchor,
    BillingChoice,
    PlanVersion,
    WalletEntry,
)
from tests.tenants.cast import Cast

AT = datetime(2026, 11, 1, tzinfo=UTC)
TABLES = [PlanVersion, AddOnVersion, BillingChoice, BillingAnchor, WalletEntry]


@pytest.fixture
def written(cast: Cast) -> Cast:
    version = {"version": 1, "effective_from": AT, "document": "{}"}
    PlanVersion.objects.create(plan=cast.small, **version)
    AddOnVersion.objects.create(add_on=AddOn.objects.create(code="a", name="A"), **version)
    BillingChoice.objects.create(tenant=cast.acme, since=AT)
    BillingAnchor.objects.create(tenant=cast.acme, at=AT, unit="month")
    WalletEntry.objects.create(
        tenant=cast.acme, amount=Decimal(5), kind="top_up", balance=Decimal(5)
    )
    return cast


@pytest.mark.parametrize("model", TABLES)
def test_models_and_querysets_refuse(written: Cast, model: type[models.Model]) -> None:
    row = model._default_manager.all()[0]
    for act in (row.save, row.delete, model._default_manager.all().delete):
        with pytest.raises(AppendOnlyError):
            act()


@pytest.mark.parametrize("act", ["UPDATE {} SET id = id", "DELETE FROM {}"])
@pytest.mark.parametrize("model", TABLES)
def test_the_database_refuses(written: Cast, model: type[models.Model], act: str) -> None:
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(act.format(model._meta.db_table))
    assert model._default_manager.exists()
