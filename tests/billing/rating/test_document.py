"""A price document reads back as it was written, and each mistake in it is one clear line."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.document import (
    Catalogue,
    read_add_on,
    read_catalogue,
    read_discount,
    read_override,
    read_plan,
    write,
)
from billing.rating.fields import MalformedDocument
from billing.rating.prices import (
    AddOnPrices,
    Discount,
    Entitlements,
    Graduated,
    Override,
    PerUnit,
    PlanPrices,
    Tier,
)
from tests.billing.rating import plans

PLAN: dict[str, Any] = {
    "format": 1,
    "code": "growth",
    "name": "Growth",
    "version": 3,
    "effective_from": "2026-11-01T00:00:00Z",
    "currency": "USD",
    "fee": "299.00",
    "interval": {"unit": "month", "every": 1},
    "trial": {"days": 14, "converts": True},
    "entitlements": {
        "products": ["ws", "info"],
        "channels": None,
        "regions": ["eu"],
        "connections": 20,
        "subscriptions": None,
        "coins": 200,
        "users": 50,
        "requests_per_s": 100,
        "burst": 1000,
        "retention_hours": 168,
    },
    "meters": [
        {
            "code": "messages",
            "name": "Messages",
            "metric": "messages",
            "pricing": {
                "model": "graduated",
                "tiers": [
                    {"up_to": 1_000_000, "price": "3", "per": 1_000_000},
                    {"up_to": None, "price": "0.0000005", "per": 1},
                ],
            },
            "channels": [],
            "weights": {"l2Diff": "0.5"},
            "included": 300_000_000,
            "overage": True,
            "cap": "500.00",
            "zero_rated": ["resync"],
        },
        {
            "code": "l4-bytes",
            "name": "L4 egress",
            "metric": "bytes",
            "pricing": {"model": "per_unit", "price": "0.09", "per": 1_000_000_000},
            "channels": ["l4Book"],
        },
    ],
}
ADD_ON: dict[str, Any] = {
    "format": 1,
    "code": "order-book",
    "name": "Order book",
    "version": 1,
    "effective_from": "2026-11-01T00:00:00Z",
    "currency": "USD",
    "fee": "199",
    "included": {"messages": 1_000_000},
    "entitlements": {"channels": ["l4Book"], "connections": 5},
}
DISCOUNT: dict[str, Any] = {
    "format": 1,
    "code": "launch",
    "name": "Launch",
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2027-02-01T12:30:15Z",
    "percent": "12.5",
    "applies_to": "usage:messages",
}
OVERRIDE: dict[str, Any] = {
    "format": 1,
    "plan": "growth",
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": None,
    "fee": "249.50",
    "entitlements": None,
    "meters": PLAN["meters"],
}


def changed(document: dict[str, Any], path: str, value: object = ...) -> str:
    """The document with the value at `path` (`meters.0.code`) replaced, or removed."""
    copied = copy.deepcopy(document)
    *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    at: Any = copied
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(copied)


def test_a_plan_is_read_as_it_is_meant() -> None:
    plan = read_plan(json.dumps(PLAN))
    assert (plan.code, plan.version, plan.fee) == ("growth", 3, Decimal(299))
    assert plan.effective_from == datetime(2026, 11, 1, tzinfo=UTC)
    assert plan.entitlements == Entitlements(
        products=("ws", "info"),
        channels=None,
        regions=("eu",),
        connections=20,
        subscriptions=None,
        coins=200,
        users=50,
        requests_per_s=100,
        burst=1000,
        retention_hours=168,
    )
    messages, egress = plan.meters
    assert messages.pricing == Graduated(
        (Tier(1_000_000, Decimal(3), 1_000_000), Tier(None, Decimal("0.0000005")))
    )
    assert egress.pricing == PerUnit(Decimal("0.09"), 10**9)
    assert (egress.included, egress.overage, egress.cap) == (0, False, None)
    assert '"price": "0.0000005"' in write(plan)


def test_the_example_of_the_documentation_is_a_plan() -> None:
    page = (Path(__file__).parents[3] / "docs" / "prices.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert read_plan(example).meter_of("bytes", "l4Book") is not None


@settings(max_examples=50)
@given(plans.plans(plans.intervals))
def test_a_plan_comes_back(plan: PlanPrices) -> None:
    assert read_plan(write(plan)) == plan
    assert write(read_plan(write(plan))) == write(plan)


@given(plans.add_ons)
def test_an_add_on_comes_back(add_on: AddOnPrices) -> None:
    assert read_add_on(write(add_on)) == add_on


@settings(max_examples=50)
@given(plans.overrides)
def test_own_terms_come_back(own: Override) -> None:
    assert read_override(write(own)) == own


@given(plans.discounts)
def test_a_discount_comes_back(discount: Discount) -> None:
    assert read_discount(write(discount)) == discount


@settings(max_examples=20)
@given(st.lists(plans.plans(plans.intervals), max_size=2, unique_by=lambda p: p.code))
def test_a_catalogue_comes_back(found: list[PlanPrices]) -> None:
    catalogue = Catalogue(plans=tuple(found))
    assert read_catalogue(write(catalogue)) == catalogue


M = "meters.0"
TIERS = "meters.0.pricing.tiers"
PLAN_MISTAKES: list[tuple[str, object, str]] = [
    ("format", 2, "format: 2 is outside 1…1; choose one within."),
    ("format", ..., "format: is missing; write a whole number from 1 to 1."),
    ("code", "Growth", 'code: "Growth" is not a code of small letters, digits, - and _; correct'),
    ("code", "g" * 41, "code: has 41 characters, at most 40; shorten it."),
    ("code", ..., 'code: is missing; write a text in "quotes".'),
    ("name", "", "name: must be printable text without blanks around it; correct it."),
    ("name", "a\nb", "name: must be printable text"),
    ("name", "\ud800", "name: must be printable text"),
    ("name", "x" * 81, "name: has 81 characters, at most 80; shorten it."),
    ("name", 7, 'name: must be a text in "quotes", not the number 7.'),
    ("version", 0, "version: 0 is outside 1…1000000; choose one within."),
    ("version", True, "version: must be a whole number from 1 to 1000000, not true."),
    ("effective_from", "2026-11-01", 'effective_from: "2026-11-01" is not a time; write it in UTC'),
    ("effective_from", "2026-02-30T00:00:00Z", "effective_from: "),
    ("effective_from", "2026-11-01T00:30:00Z", "is not a full hour; prices change on full hours."),
    ("currency", "EUR", 'currency: "EUR" is not USD, the only one billed; correct it.'),
    ("fee", "299.005", 'fee: "299.005" has 3 decimals, at most 2; round it.'),
    ("fee", "-1", 'fee: "-1" is negative; write 0 or more.'),
    ("fee", "1,50", 'fee: "1,50" is not a number; write digits with a decimal point'),
    ("fee", "1e3", 'fee: "1e3" is not a number'),
    ("fee", "NaN", 'fee: "NaN" is not a number'),
    ("fee", "", 'fee: "" is not a number'),
    ("fee", "٣", "is not a number"),
    ("fee", 299, 'fee: must be a number written as a text, like "0.05", not the number 299.'),
    ("fee", "1000000000.01", 'fee: "1000000000.01" is beyond 1000000000; lower it.'),
    ("interval", ..., "interval: is missing; write an object in {…}."),
    ("interval", [], "interval: must be an object in {…}, not a list."),
    ("interval.unit", "months", 'interval.unit: "months" is not known; write month.'),
    ("interval.unit", "week", "is not known; write one of month, year, day."),
    ("interval.every", 121, "interval.every: 121 is outside 1…120; choose one within."),
    ("trial.days", 0, "trial.days: 0 is outside 1…366; choose one within."),
    ("trial.converts", "yes", 'trial.converts: must be true or false, not the text "yes".'),
    ("entitlements", ..., "entitlements: is missing; write an object in {…}."),
    ("entitlements.products", "ws", "entitlements.products: must be a list in […], not the text"),
    ("entitlements.products", ["ws", "ws"], 'products[1]: "ws" comes twice; remove one.'),
    ("entitlements.products", [1], "products[0]: must be a text in"),
    ("entitlements.channels", ["l2 Book"], 'channels[0]: "l2 Book" is not 1 to 32 visible ASCII'),
    ("entitlements.regions", ["EU"], 'regions[0]: "EU" is not a code'),
    ("entitlements.connections", -1, "entitlements.connections: -1 is outside 0…1000000; choose"),
    ("entitlements.subscriptions", "5", "subscriptions: must be a whole number from 0 to 10000000"),
    ("entitlements.coins", 10**7, "entitlements.coins: 10000000 is outside"),
    ("entitlements.users", {}, "entitlements.users: must be a whole number"),
    ("entitlements.requests_per_s", 2_000, "burst: is below requests_per_s; raise it to that"),
    ("entitlements.burst", 5, "entitlements.burst: is below requests_per_s; raise it to that"),
    ("entitlements.retention_hours", -5, "entitlements.retention_hours: -5 is outside"),
    ("entitlements.conections", 5, 'has no field "conections"; did you mean connections?'),
    ("fees", "5", 'has no field "fees"; did you mean fee?'),
    ("meters", {}, "meters: must be a list in […], not an object."),
    ("meters.1", None, "meters[1]: must be an object in {…}, not null."),
    (f"{M}.code", "l4-bytes", 'meters[1].code: "l4-bytes" comes twice; rename one.'),
    (f"{M}.name", " x", "meters[0].name: must be printable text"),
    (f"{M}.metric", "message", 'meters[0].metric: "message" is not known; write messages.'),
    ("meters.1.metric", "messages", ""),
    (f"{M}.channels", ["a", "a"], 'meters[0].channels[1]: "a" comes twice; remove one.'),
    (f"{M}.weights", {"l2Diff": "0.00001"}, "meters[0].weights.l2Diff: "),
    (f"{M}.weights", {"l2 Diff": "1"}, 'weights: "l2 Diff" is not 1 to 32 visible ASCII'),
    (f"{M}.weights", {"\x85": None}, 'weights: "\\u0085" is not 1 to 32 visible ASCII'),
    (f"{M}.weights", ["l2Diff"], "meters[0].weights: must be an object in {…}, not a list."),
    (f"{M}.included", 2**63, "meters[0].included: 9223372036854775808 is outside 0…"),
    (f"{M}.included", -1, "meters[0].included: -1 is outside"),
    (f"{M}.overage", 1, "meters[0].overage: must be true or false, not the number 1."),
    (f"{M}.cap", "0.001", 'meters[0].cap: "0.001" has 3 decimals, at most 2; round it.'),
    (f"{M}.zero_rated", ["Resync"], 'meters[0].zero_rated[0]: "Resync" is not a code'),
    (f"{M}.pricing", ..., "meters[0].pricing: is missing; write an object in {…}."),
    (f"{M}.pricing.model", "tiered", "meters[0].pricing.model: "),
    (f"{M}.pricing.tiers", [], "meters[0].pricing.tiers: is empty; write at least one tier"),
    (f"{TIERS}.0.price", "0.000000000001", "has 12 decimals, at most 8; round it."),
    (f"{TIERS}.0.price", ..., "meters[0].pricing.tiers[0].price: is missing; write a number"),
    (f"{TIERS}.0.per", 3, "tiers[0].per: 3 is not a power of ten; write 1, 10, 100 … "),
    (f"{TIERS}.0.up_to", None, "tiers[0].up_to: is null; only the last tier is open."),
    (f"{TIERS}.1.up_to", 2_000_000, "tiers[1].up_to: must be null, so that no usage is without"),
    (f"{TIERS}.0.up_to", 0, "tiers[0].up_to: 0 is outside 1…"),
    ("meters.1.pricing.size", 5, 'meters[1].pricing: has no field "size"; '),
    ("meters.1.pricing.price", "-0.1", 'meters[1].pricing.price: "-0.1" is negative'),
]


@pytest.mark.parametrize(("path", "value", "line"), PLAN_MISTAKES)
def test_a_mistake_in_a_plan_is_one_line(path: str, value: object, line: str) -> None:
    text = changed(PLAN, path, value)
    if not line:  # what looks like a mistake and is none
        read_plan(text)
        return
    with pytest.raises(MalformedDocument) as caught:
        read_plan(text)
    said = str(caught.value)
    assert line in said
    assert len(said.splitlines()) == len(caught.value.mistakes) == 1, said


@pytest.mark.parametrize(
    ("read", "document", "path", "value", "line"),
    [
        (read_add_on, ADD_ON, "fee", "x", 'fee: "x" is not a number'),
        (read_add_on, ADD_ON, "version", "1", "version: must be a whole number"),
        (read_add_on, ADD_ON, "included", {"messages": -1}, "included.messages: -1 is outside"),
        (read_add_on, ADD_ON, "included", {"Mess": 1}, 'included: "Mess" is not a code'),
        (read_add_on, ADD_ON, "entitlements", [], "entitlements: must be an object"),
        (read_add_on, ADD_ON, "meters", [], 'has no field "meters"; known: '),
        (read_discount, DISCOUNT, "percent", "100.1", 'percent: "100.1" is beyond 100; lower it.'),
        (read_discount, DISCOUNT, "percent", "5 %", 'percent: "5 %" is not a number'),
        (read_discount, DISCOUNT, "percent", ..., "has neither percent nor amount; write one"),
        (read_discount, DISCOUNT, "amount", "5", "has both a percent and an amount; write one"),
        (read_discount, DISCOUNT, "ends_at", "2026-11-01T00:00:00Z", "ends_at: is not after"),
        (read_discount, DISCOUNT, "starts_at", ..., "starts_at: is missing; write a time like"),
        (read_discount, DISCOUNT, "applies_to", "fees", 'applies_to: "fees" is not invoice, plan'),
        (read_override, OVERRIDE, "plan", "", 'plan: "" is not a code'),
        (read_override, OVERRIDE, "fee", "1.234", "fee: "),
        (read_override, OVERRIDE, "starts_at", "2026-11-01T00:00:01Z", "is not a full hour"),
        (read_override, OVERRIDE, "meters.0.included", "1", "meters[0].included: must be a whole"),
    ],
)
def test_a_mistake_elsewhere_is_one_line(
    read: Any, document: dict[str, Any], path: str, value: object, line: str
) -> None:
    with pytest.raises(MalformedDocument) as caught:
        read(changed(document, path, value))
    said = str(caught.value)
    assert line in said
    assert len(said.splitlines()) == 1, said


def test_two_meters_may_not_count_the_same() -> None:
    twice = changed(PLAN, "meters.1", {**PLAN["meters"][0], "code": "more"})
    with pytest.raises(MalformedDocument, match=r"meters\[1\].channels: messages of all other"):
        read_plan(twice)


def test_tiers_may_not_overlap() -> None:
    tiers = [{"up_to": n, "price": "1"} for n in (10, 10, None)]
    with pytest.raises(MalformedDocument, match=r"tiers\[1\].up_to: 10 is not above 10; raise it"):
        read_plan(changed(PLAN, TIERS, tiers))


def test_all_mistakes_come_at_once() -> None:
    text = changed(json.loads(changed(PLAN, "fee", "x")), f"{TIERS}.0.per", 7)
    with pytest.raises(MalformedDocument) as caught:
        read_plan(text)
    assert [mistake.where for mistake in caught.value.mistakes] == [
        "fee",
        "meters[0].pricing.tiers[0].per",
    ]


def test_a_version_comes_once_in_a_catalogue() -> None:
    plan = {name: value for name, value in PLAN.items() if name != "format"}
    text = json.dumps({"format": 1, "plans": [plan, plan], "add_ons": []})
    with pytest.raises(MalformedDocument, match=r"plans\[1\]: version 3 of growth comes twice"):
        read_catalogue(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "not JSON at line 1, column 1"),
        ("{", "not JSON at line 1, column 2"),
        ("[]", "must be an object in {…}, not a list."),
        ('{"fee": 4.5}', "The number 4.5 is not whole"),
        ('{"fee": NaN}', "The number NaN is not whole"),
        ('{"fee": 1e400}', "The number 1e400 is not whole"),
        ('{"fee": "1", "fee": "2"}', '"fee" comes twice; remove one.'),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": ' + "9" * 5_000 + "}", "numbers below 2^63"),
        (b"\xff{}", "JSON in UTF-8"),
        (" " * 1_000_001, "longer than 1000000 characters"),
    ],
)
def test_what_is_not_json_is_one_line(text: str | bytes, line: str) -> None:
    with pytest.raises(MalformedDocument) as caught:
        read_plan(text)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


def places(value: object, path: str = "") -> list[str]:
    """The path of everything in a document."""
    found = [path] if path else []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for step, inner in items:
        found += places(inner, f"{path}.{step}" if path else str(step))
    return found


@settings(max_examples=200)
@given(st.sampled_from(places(PLAN)), json_values)
def test_anything_anywhere_is_read_or_refused(path: str, value: object) -> None:
    text = changed(PLAN, path, value)
    mistakes = mistakes_in(text)
    assert len("\n".join(mistakes).splitlines()) == len(mistakes)
    if not mistakes:
        plan = read_plan(text)
        assert read_plan(write(plan)) == plan


def mistakes_in(text: str) -> list[str]:
    try:
        read_plan(text)
    except MalformedDocument as error:
        return str(error).split("\n")
    return []
