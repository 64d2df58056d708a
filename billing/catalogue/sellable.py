"""What a document may sell here: names that something has, and amounts that can be kept.

`rating.document` knows the form alone. This is asked when something is published, so documents of
before stay readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from billing.catalogue.allowed import CAP_SUFFIX, MAX_METER_CODE
from billing.channels import CHANNELS
from billing.rating.fields import Mistake
from billing.rating.prices import AddOnPrices, Entitlements, Meter, Metric, Override, PlanPrices
from tenants.admission.principal import PRODUCTS

#: What is counted where it can be refused. Of the others a spend cap could not be kept.
AT_THE_DOORS = frozenset({Metric.MESSAGES, Metric.BYTES, Metric.REQUESTS})


def mistakes_of(document: PlanPrices | AddOnPrices | Override) -> list[Mistake]:
    """What of a document nobody could be given, a mistake each."""
    found = list(_of_entitlements(document.entitlements)) if document.entitlements else []
    meters = () if isinstance(document, AddOnPrices) else document.meters
    for n, meter in enumerate(meters):
        found += _of_meter(f"meters[{n}]", meter)
    return found


def _of_entitlements(limits: Entitlements) -> Iterator[Mistake]:
    yield from _unknown("entitlements.products", limits.products, "product", PRODUCTS)
    yield from _unknown("entitlements.channels", limits.channels or (), "channel", CHANNELS)


def _of_meter(where: str, meter: Meter) -> Iterator[Mistake]:
    if len(meter.code) > MAX_METER_CODE:
        yield Mistake(
            f"{where}.code",
            f"has {len(meter.code)} characters, at most {MAX_METER_CODE} ({CAP_SUFFIX} follows it "
            "in allowances); shorten it.",
        )
    yield from _unknown(f"{where}.channels", meter.channels, "channel", CHANNELS)
    yield from _unknown(f"{where}.weights", meter.weights, "channel", CHANNELS)
    if meter.overage and meter.metric not in AT_THE_DOORS:
        yield Mistake(
            f"{where}.overage",
            f"is true, but {meter.metric} cannot be refused at the doors, so no spend cap would "
            "hold; write false, and include what may be used.",
        )


def _unknown(
    where: str, names: Iterable[str], what: str, known: tuple[str, ...]
) -> Iterator[Mistake]:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            advice = f"write {near[0]}" if near else f"the {what}s are {', '.join(known)}"
            yield Mistake(where, f'"{name}" is no {what} of this relay; {advice}.')
