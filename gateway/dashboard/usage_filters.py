"""What the usage page is asked for, as its URL says it: read kindly, written shortly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.channels import CHANNELS
from gateway.account.breakdown import COIN_METRICS, DIMENSIONS, Dimension
from gateway.account.errors import BadValue
from gateway.account.periods import Range
from gateway.account.usage import METRICS, PRODUCTS, Step, UsageQuery

TODAY, WEEK, PERIOD, LAST, CUSTOM = "today", "7d", "period", "last", "custom"
RANGES: Mapping[str, str | Promise] = {
    TODAY: gettext_lazy("Today"),
    WEEK: gettext_lazy("7 days"),
    PERIOD: gettext_lazy("This period"),
    LAST: gettext_lazy("Last period"),
    CUSTOM: gettext_lazy("Custom"),
}
BY: Mapping[str, str | Promise] = {
    "channel": gettext_lazy("Channel"),
    "key": gettext_lazy("Key"),
    "product": gettext_lazy("Product"),
    "coin": gettext_lazy("Coin"),
    "zero_rated": gettext_lazy("Charged or free"),
    "none": gettext_lazy("Total"),
}
METRIC_NAMES: Mapping[str, str | Promise] = {
    "messages": gettext_lazy("Messages"),
    "bytes": gettext_lazy("Bytes"),
    "requests": gettext_lazy("Requests"),
    "coin_minutes": gettext_lazy("Coin-minutes"),
    "archive_bytes": gettext_lazy("Bytes of archive"),
}
STEPS: Mapping[str, str | Promise] = {"hour": gettext_lazy("Hour"), "day": gettext_lazy("Day")}
FREE: Mapping[str, str | Promise] = {
    "": gettext_lazy("Charged and free"),
    "no": gettext_lazy("Charged"),
    "yes": gettext_lazy("Free"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """One view of usage. `start` and `end` are days of UTC, the end included; "" unless custom."""

    range: str = PERIOD
    start: str = ""
    end: str = ""
    step: Step = "day"
    by: Dimension = "channel"
    metric: str = "messages"
    key: str = ""
    product: str = ""
    channel: str = ""
    coin: str = ""
    free: str = ""

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> Filters:
        """From a query string; what is not known is left out, and what cannot be together is the
        nearest that can: coins are told by the day, in messages and bytes."""
        found = {
            name: asked.get(name, "").strip()[:64] for name in cls.__slots__ if asked.get(name)
        }
        known: dict[str, object] = {
            "range": RANGES,
            "step": STEPS,
            "by": DIMENSIONS,
            "metric": METRICS,
            "product": PRODUCTS,
            "channel": CHANNELS,
            "free": FREE,
        }
        for name, values in known.items():
            if name in found and found[name] not in values:  # type: ignore[operator]
                del found[name]
        if not found.get("key", "").isdecimal() or len(found["key"]) > 18:
            found.pop("key", None)
        if "range" not in found and ("start" in found or "end" in found):
            found["range"] = CUSTOM
        if "step" not in found and found.get("range") == TODAY:
            found["step"] = "hour"
        return cls(**found)._possible()  # type: ignore[arg-type]

    def _possible(self) -> Filters:
        if self.by != "coin" and not self.coin:
            return self
        metric = self.metric if self.metric in COIN_METRICS else COIN_METRICS[0]
        return replace(self, step="day", metric=metric)

    def params(self, **changes: str) -> str:
        """The query string of itself, some of it changed; only what is not so anyway."""
        found = {name: getattr(self, name) for name in self.__slots__} | changes
        if found["range"] != CUSTOM:
            found["start"] = found["end"] = ""
        plain = Filters(step="hour" if found["range"] == TODAY else "day")
        if found["range"] != self.range and "step" not in changes:
            found["step"] = plain.step  # of another range, its own
        kept = {name: value for name, value in found.items() if value != getattr(plain, name)}
        return urlencode(kept)

    def query(self, this: Range, last: Range, *, now: datetime) -> UsageQuery:
        """What to ask for, given the running period and the last. Raises BadValue."""
        start, end = self._span(this, last, now)
        return UsageQuery(
            start=start,
            end=end,
            step=self.step,
            key_ids=(int(self.key),) if self.key else (),
            channels=(self.channel,) if self.channel else (),
            product=self.product,
            coin=self.coin,
            is_free=None if not self.free else self.free == "yes",
        )

    def _span(self, this: Range, last: Range, now: datetime) -> Range:
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        if self.range == TODAY:
            return tomorrow - timedelta(days=1), tomorrow
        if self.range == WEEK:
            return tomorrow - timedelta(days=7), tomorrow
        if self.range == PERIOD:
            return this[0], min(this[1], tomorrow)
        if self.range == LAST:
            return last
        end = _day(self.end, _("To")) if self.end else tomorrow - timedelta(days=1)
        start = _day(self.start, _("From")) if self.start else end - timedelta(days=6)
        if end < start:
            raise BadValue(_("“From” must not be after “to”."))
        return start, end + timedelta(days=1)


def _day(text: str, field: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise BadValue(
            _("%(field)s: %(text)s is no day like 2026-11-30.") % {"field": field, "text": text}
        ) from None
    if not 2000 <= day.year < 3000:
        raise BadValue(_("%(field)s: years are 2000 to 2999.") % {"field": field})
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
