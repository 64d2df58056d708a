"""Rows of any model, for tests of every page of the admin: made from the fields, with values of
their own where a page reads more out of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.utils import timezone

from billing.models import AddOnVersion
from billing.rating import document
from billing.rating.prices import Discount
from tenants.models import APIKey
from tests.billing.catalogue.books import START, make_add_on, make_prices

_numbers = itertools.count(1_000)


@contextmanager
def unchecked() -> Iterator[None]:
    """CHECK constraints off: rows that only have to be shown need not make sense together."""
    off, on = {
        "sqlite": ("PRAGMA ignore_check_constraints = ON", "PRAGMA ignore_check_constraints = OFF"),
        "mysql": ("SET check_constraint_checks = 0", "SET check_constraint_checks = 1"),
    }[connection.vendor]
    # Not Django's cursor, which refuses everything once a statement of a test has failed.
    connection.ensure_connection()
    connection.connection.cursor().execute(off)
    try:
        yield
    finally:
        connection.connection.cursor().execute(on)


def make(model: type[models.Model]) -> models.Model:
    """One row, and a row of its own of each that it names, all of this moment."""
    values = {}
    for field in model._meta.concrete_fields:
        if isinstance(field, models.AutoField):
            continue
        own = OWN.get((model.__name__, field.name), OWN.get(("", field.name)))
        values[field.attname] = own() if own else _value(field)
    row = model(**values)
    model._base_manager.bulk_create([row])
    if row.pk is None:  # MariaDB gives ids back from a bulk insert, MySQL does not
        row = model._base_manager.order_by("-pk").first()  # type: ignore[assignment]
    return row


def _value(field: Any) -> Any:
    number = next(_numbers)
    if isinstance(field, models.ForeignKey):
        if issubclass(field.related_model, ContentType):
            return ContentType.objects.get_for_model(APIKey).pk
        return make(field.related_model).pk
    if field.choices and not field.unique:
        return field.choices[0][0]
    if isinstance(field, models.DateTimeField):
        return timezone.now() - timedelta(seconds=number % 50)
    if isinstance(field, models.DateField):
        return (timezone.now() - timedelta(days=number)).date()
    if isinstance(field, models.BooleanField):
        return None if field.null else True
    if isinstance(field, models.DecimalField):
        return number % 50
    if isinstance(field, models.IntegerField):
        return number
    if isinstance(field, models.FloatField):
        return float(number % 50)
    if isinstance(field, models.JSONField):
        return field.get_default() if field.has_default() else {}
    if isinstance(field, models.UUIDField):
        return field.get_default()
    if isinstance(field, models.GenericIPAddressField):
        return str(IPv4Address("192.0.2.0") + number)
    if isinstance(field, models.BinaryField):
        return b"bytes"
    if isinstance(field, models.EmailField):
        return f"p{number}@example.com"
    return f"t{number}"[: field.max_length or 100]


#: What the fields cannot say.
OWN: dict[tuple[str, str], Callable[[], Any]] = {
    ("PlanVersion", "document"): lambda: document.write(make_prices("small", 30)),
    ("AddOnVersion", "document"): lambda: document.write(make_add_on()),
    ("DiscountGrant", "document"): lambda: document.write(
        Discount(code="ten", name="Ten", percent=Decimal(10), starts_at=START)
    ),
    ("APIKey", "first_key"): lambda: None,
    ("APIKey", "scopes"): lambda: ["ws"],
    ("AddOnVersion", "version"): lambda: 1,
    ("AddOnSubscription", "add_on"): lambda: make(AddOnVersion).add_on_id,  # type: ignore[attr-defined]
    ("AddOnSubscription", "version"): lambda: 1,
    ("Seller", "id"): lambda: 1,
}
