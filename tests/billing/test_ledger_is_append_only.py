"""What was posted stays as it was: the model, querysets, the admin and the database refuse."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.db.models import ProtectedError
from django.test import Client

from billing.append_only import AppendOnlyError
from billing.metering import chain
from billing.models import LedgerEntry, LedgerSeal, UsageBatch
from tenants import services
from tests.billing.usage import HOUR, use
from tests.tenants.cast import Cast

TABLES = [UsageBatch, LedgerEntry, LedgerSeal]


@pytest.fixture
def used(cast: Cast) -> Cast:
    use(services.issue_key(tenant=cast.acme, name="bot").key.pk, 5, seq=1)
    chain.seal_ledger(HOUR)
    return cast


@pytest.mark.parametrize("model", TABLES)
def test_the_model_and_its_querysets_refuse(used: Cast, model: type[models.Model]) -> None:
    rows = model._default_manager.all()
    row = rows[0]
    for act in (
        lambda: rows.update(hour=HOUR),
        lambda: rows.delete(),
        lambda: rows.bulk_update([row], ["hour"]),
        lambda: rows.bulk_create([row], update_conflicts=True, update_fields=["hour"]),
        lambda: row.save(),
        lambda: row.delete(),
        lambda: rows.update_or_create(pk=row.pk, defaults={"hour": HOUR}),
    ):
        with pytest.raises(AppendOnlyError, match="append-only"):
            act()


@pytest.mark.parametrize(
    "act",
    ["UPDATE {0} SET hour = hour", "DELETE FROM {0}", "REPLACE INTO {0} SELECT * FROM {0}"],
)
@pytest.mark.parametrize("model", TABLES)
def test_the_database_refuses(used: Cast, model: type[models.Model], act: str) -> None:
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(act.format(model._meta.db_table))
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        model._base_manager.update(hour=HOUR)
    assert model._default_manager.exists()


def test_a_tenant_with_usage_cannot_be_deleted(used: Cast) -> None:
    with pytest.raises(ProtectedError):
        used.acme.delete()


@pytest.mark.parametrize("model", TABLES)
def test_the_admin_refuses(operator: Client, used: Cast, model: type[models.Model]) -> None:
    base = f"/admin/billing/{model.__name__.lower()}/"
    row = model._default_manager.all()[0]
    assert operator.get(base).status_code == 200
    assert operator.get(f"{base}{row.pk}/change/").status_code == 200
    assert operator.post(f"{base}{row.pk}/change/", {}).status_code == 403
    assert operator.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    forged = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    operator.post(base, forged)
    assert model._default_manager.filter(pk=row.pk).exists()
