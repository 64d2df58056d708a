"""What somebody thinks of following, as the estimator's form says it, and its presets. The reading
is kind: what is not known is left out, and only what the relay refuses is an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from gateway.account.estimate import MAX_CONNECTIONS, Asked

Text = str | Promise

#: Of coins, of the whole market, of accounts.
COIN_CHANNELS = (
    *("l2Book", "l2Diff", "bbo", "trades", "candle", "activeAssetCtx", "l4Book", "l4Diff"),
)
WHOLE_CHANNELS = ("allMids", "assetCtxs", "spotAssetCtxs", "allDexsAssetCtxs", "fastAssetCtxs")
USER_CHANNELS = (
    *("orderUpdates", "userFills", "userEvents", "userFundings", "openOrders"),
    *("clearinghouseState", "spotState", "webData2"),
)
#: Coins of a whole market are not asked for in these: each is a flood by itself.
_NOT_OF_MARKETS = ("l4Book",)
MARKETS: dict[str, Text] = {
    "perp": _("all perpetuals"),
    "spot": _("all spot pairs"),
    "hip3": _("all HIP-3 markets"),
}
MAX_COINS = 200
MAX_ACCOUNTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Channels of coins (named, or all of some markets) and of so many accounts."""

    channels: tuple[str, ...] = ()
    coins: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    accounts: int = 1
    hours: Decimal = Decimal(24)
    connections: int = 1

    @classmethod
    def read(cls, asked: QueryDict) -> Wish:
        """From a query string."""
        known = (*COIN_CHANNELS, *WHOLE_CHANNELS, *USER_CHANNELS)
        written = [
            name for text in (*asked.getlist("coin"), asked.get("add", "")) for name in _split(text)
        ]
        return cls(
            channels=tuple(name for name in known if name in asked.getlist("channel")),
            coins=tuple(dict.fromkeys(written))[:MAX_COINS],
            markets=tuple(name for name in MARKETS if name in asked.getlist("market")),
            accounts=_whole(asked.get("accounts"), 1, MAX_ACCOUNTS),
            hours=_hours(asked.get("hours")),
            connections=_whole(asked.get("connections"), 1, MAX_CONNECTIONS),
        )

    def __bool__(self) -> bool:
        return bool(self.asked())

    def params(self) -> str:
        """Its query string."""
        found: list[tuple[str, object]] = [("channel", name) for name in self.channels]
        found += [("market", name) for name in self.markets]
        found += [("coin", name) for name in self.coins]
        plain = Wish()
        for name in ("accounts", "hours", "connections"):
            if getattr(self, name) != getattr(plain, name):
                found.append((name, getattr(self, name)))
        return urlencode(found)

    @property
    def lacks_coins(self) -> bool:
        """Whether channels of coins are chosen, and no coin."""
        return any(name in COIN_CHANNELS for name in self.channels) and not (
            self.coins or self.markets
        )

    def asked(self) -> list[Asked]:
        """The same as subscriptions."""
        return [
            Asked(subscription=one, hours_per_day=self.hours, connections=self.connections)
            for name in self.channels
            for one in self._subscriptions(name)
        ]

    def _subscriptions(self, channel: str) -> Iterable[dict[str, object]]:
        one: dict[str, object] = {"type": channel}
        if channel == "candle":
            one["interval"] = "1m"
        if channel in WHOLE_CHANNELS:
            yield one
        elif channel in USER_CHANNELS:
            # Whose they are is not known yet: what counts is what the channel brings on average.
            yield one | _named(
                "user", "users", [f"0x{n:040x}" for n in range(1, self.accounts + 1)]
            )
        else:
            if self.coins:
                yield one | _named("coin", "coins", self.coins)
            if self.markets and channel not in _NOT_OF_MARKETS:
                yield one | {"marketTypes": list(self.markets)}


@dataclass(frozen=True, slots=True)
class Preset:
    """A wish that many have."""

    name: Text
    icon: str
    wish: Wish


PRESETS: Sequence[Preset] = (
    Preset(
        _("Market maker: 5 books, trades, own orders"),
        "chart-line",
        Wish(
            channels=("l2Book", "trades", "orderUpdates", "userFills"),
            coins=("BTC", "ETH", "SOL", "HYPE", "XRP"),
        ),
    ),
    Preset(_("All perpetuals’ trades"), "activity", Wish(channels=("trades",), markets=("perp",))),
    Preset(
        _("One bot: best prices of two coins"),
        "zap",
        Wish(channels=("bbo", "trades"), coins=("BTC", "ETH")),
    ),
    Preset(
        _("Portfolio: mids and ten accounts"),
        "wallet",
        Wish(channels=("allMids", "userFills", "clearinghouseState"), accounts=10),
    ),
)

#: The same book in its other form.
OTHER_FORM = {"l2Book": "l2Diff", "l2Diff": "l2Book", "l4Book": "l4Diff"}


def in_other_form(wish: Wish) -> tuple[Wish, str, str] | None:
    """The wish with one channel in its other form, and the names of both; None where there is
    none."""
    for name, other in OTHER_FORM.items():
        if name in wish.channels and other not in wish.channels:
            channels = tuple(other if one == name else one for one in wish.channels)
            changed = Wish(
                channels=channels,
                coins=wish.coins,
                markets=wish.markets,
                accounts=wish.accounts,
                hours=wish.hours,
                connections=wish.connections,
            )
            return changed, name, other
    return None


def _named(one: str, many: str, names: Sequence[str]) -> dict[str, object]:
    return {one: names[0]} if len(names) == 1 else {many: list(names)}


def _split(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())[:48]]


def _whole(text: str | None, least: int, most: int) -> int:
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > 9:
        return least
    return max(least, min(most, int(text)))


def _hours(text: str | None) -> Decimal:
    try:
        hours = round(Decimal(text or 24), 2)
    except InvalidOperation:
        return Decimal(24)
    return hours if hours.is_finite() and 0 < hours <= 24 else Decimal(24)
