"""What an edge process is built from: the door of `tenants`, the meter of `billing`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from billing.metering.meter import Meter
from billing.metering.spool import Shipper
from billing.metering.used import load_used
from tenants.admission.control import AdmissionControl


def admission() -> AdmissionControl:
    """The process's door."""
    return AdmissionControl.from_settings(load_used)


def meter() -> tuple[Meter, Callable[[], None]]:
    """The process's meter, counting on the loop's thread, and what writes its last batch."""
    shipper = Shipper.from_settings(call_soon=asyncio.get_running_loop().call_soon_threadsafe)
    shipper.start()
    return shipper.meter, shipper.stop
