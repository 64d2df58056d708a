"""What one address of ours may ask the public API in a minute, spent fairly between tenants. Pure.

Max-min fairness with a memory of a minute. A tenant below its equal share is served while there is
anything left; one above it takes only what is left when the others' shares, as far as they have
asked for them lately, or a reserve for who has not asked yet are put aside.

A part of it, `for_actions`, is never read away: who polls all that there is can still cancel.

What is lent counts as used from when it is lent, and a slot stays for `KEPT_S` at least: who spends
it within `LEND_S` spends it within the minute that it is counted in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

#: The exchange's minute, with a second for the way there.
WINDOW_S = 61.0
SLOT_S = 5.0
SLOTS = int(WINDOW_S // SLOT_S) + 2
KEPT_S = (SLOTS - 1) * SLOT_S
#: How long what was lent may be spent.
LEND_S = 3.0
#: Nothing is lent beyond this part of the limit: what nobody spends there is not missing to others.
LENDABLE = 0.5
#: For a tenant who has asked nothing within the minute.
RESERVE = 0.1
#: Tenants remembered in a slot; beyond it those who asked least are forgotten, not what they used.
MAX_TENANTS = 500


class Slot(msgspec.Struct, array_like=True):
    """A few seconds: what each tenant used, and what it asked for and did not get."""

    number: int
    used: dict[str, float] = {}
    refused: dict[str, float] = {}
    others: float = 0.0  # used by those that were forgotten
    acted: dict[str, float] = {}  # of what was used, what was no read


class Window(msgspec.Struct, array_like=True):
    """The minute as it is shared between processes."""

    slots: list[Slot] = []


@dataclass(slots=True)
class Budget:
    """`limit` of weight in any `WINDOW_S`, whatever the tenants do."""

    limit: float
    for_actions: float = 0.0
    window: Window = field(default_factory=Window)

    def take(self, tenant: str, weight: float, *, now_s: float, is_action: bool = False) -> float:
        """Spend `weight` and return 0.0, or spend nothing and return the seconds to wait.

        What is heavier than the limit takes all of it: it could never be served else.
        """
        slot = self._slot(now_s)
        weight = min(weight, self._limit(is_action))
        if weight <= 0:
            return WINDOW_S
        if self._admits(tenant, weight, is_action):
            _use(slot, tenant, weight, is_action)
            self._bound(slot)
            return 0.0
        slot.refused[tenant] = max(slot.refused.get(tenant, 0.0), weight)
        self._bound(slot)
        return self._wait(now_s)

    def lend(self, tenant: str, weight: float, *, now_s: float) -> int | None:
        """Spend `weight` for actions that are still to come within `LEND_S`, while plenty is left:
        the slot to give the rest back to, or None, and nobody has asked for anything."""
        slot = self._slot(now_s)
        if weight + self._total() > LENDABLE * self.limit or not self._admits(tenant, weight, True):
            return None
        _use(slot, tenant, weight, True)
        self._bound(slot)
        return slot.number

    def give_back(self, tenant: str, weight: float, *, slot: int) -> None:
        """What was lent in a slot and not spent."""
        for each in self.window.slots:
            if each.number == slot:
                _use(each, tenant, -weight, True)

    def owe(self, tenant: str, weight: float, *, now_s: float, is_action: bool = False) -> None:
        """Count what was used already, whatever is left; negative: what was taken and not used."""
        slot = self._slot(now_s)
        if weight >= 0:
            _use(slot, tenant, weight, is_action)
        else:
            # Nobody says when it was taken. From the oldest: what is still counted is then never
            # forgotten too early.
            for each in self.window.slots:
                some = min(-weight, each.used.get(tenant, 0.0))
                if some > 0:
                    _use(each, tenant, -some, is_action)
                    weight += some
        self._bound(slot)

    def spent(self, *, now_s: float) -> float:
        """What was used within the minute."""
        self._slot(now_s)
        return self._total()

    def _total(self) -> float:
        return sum(sum(slot.used.values()) + slot.others for slot in self.window.slots)

    def _limit(self, is_action: bool) -> float:
        """What actions have not used of their part is not there for reads."""
        if is_action:
            return self.limit
        return self.limit - max(0.0, self.for_actions * self.limit - self._acted().total())

    def _admits(self, tenant: str, weight: float, is_action: bool) -> bool:
        limit, total = self._limit(is_action), self._total()
        if total + weight > limit:
            return False
        used, asked = self._sums()
        return self._is_fair(tenant, weight, used, asked, total, limit) or (
            is_action and self._is_fair_action(tenant, weight, self._acted())
        )

    def _is_fair_action(self, tenant: str, weight: float, acted: Counter[str]) -> bool:
        """Whether it lies within a share of what is for actions alone, between those who act."""
        return acted[tenant] + weight <= self.for_actions * self.limit / len(
            acted.keys() | {tenant}
        )

    def _is_fair(
        self,
        tenant: str,
        weight: float,
        used: Counter[str],
        asked: Counter[str],
        total: float,
        limit: float,
    ) -> bool:
        active = asked.keys() | {tenant}
        share = (1 - RESERVE) * limit / len(active)
        if used[tenant] + weight <= share:
            return True
        aside = sum(min(max(0.0, share - used[other]), asked[other]) for other in active - {tenant})
        # A lone weight that is larger than what is not reserved is served from the reserve too.
        reserve = RESERVE * limit if total else 0.0
        return total + weight + max(aside, reserve) <= limit

    def _sums(self) -> tuple[Counter[str], Counter[str]]:
        """Used, and used or refused, by tenant."""
        used: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for slot in self.window.slots:
            used.update(slot.used)
            asked.update(slot.refused)
        asked.update(used)
        return used, asked

    def _acted(self) -> Counter[str]:
        acted: Counter[str] = Counter()
        for slot in self.window.slots:
            acted.update(slot.acted)
        return acted

    def _slot(self, now_s: float) -> Slot:
        """That of now; what is older than the window is gone. A clock that went back stays in the
        newest slot."""
        slots = self.window.slots
        number = int(now_s // SLOT_S)
        if slots and slots[-1].number >= number:
            if slots[-1].number - number <= SLOTS:
                return slots[-1]
            slots.clear()  # of a clock that was wrong by more than a window
        slots.append(Slot(number, {}, {}, 0.0, {}))
        while slots[0].number <= number - SLOTS:
            slots.pop(0)
        return slots[-1]

    def _wait(self, now_s: float) -> float:
        """Until the oldest that was used leaves the window."""
        for slot in self.window.slots:
            if slot.used or slot.others:
                return max(1.0, (slot.number + SLOTS) * SLOT_S - now_s)
        return SLOT_S

    @staticmethod
    def _bound(slot: Slot) -> None:
        while len(slot.used) > MAX_TENANTS:
            least = min(slot.used, key=lambda tenant: slot.used[tenant])
            slot.others += slot.used.pop(least)
            slot.acted.pop(least, None)
        while len(slot.refused) > MAX_TENANTS:
            slot.refused.pop(next(iter(slot.refused)))


def _use(slot: Slot, tenant: str, weight: float, is_action: bool) -> None:
    slot.used[tenant] = max(0.0, slot.used.get(tenant, 0.0) + weight)
    if is_action:
        slot.acted[tenant] = max(0.0, slot.acted.get(tenant, 0.0) + weight)
