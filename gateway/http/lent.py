"""What a process may spend of a tenant's actions without asking anybody: it is lent to it for
seconds, and counted as used meanwhile. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.http.budget import LEND_S

#: Of one tenant to one process, so what dies with it, for a minute.
MOST = 8.0


@dataclass(slots=True)
class Loan:
    """`slot` is the one of the budget that it is counted in."""

    tenant: str
    left: float
    until_s: float
    slot: int


@dataclass(slots=True)
class Lent:
    """The loans of one process. Times are of its own clock."""

    #: By tenant, those that end first before the others.
    _loans: dict[str, list[Loan]] = field(default_factory=dict)
    #: What each tenant's actions took here, in this period of `LEND_S` and in the one before.
    _lately: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def spend(self, tenant: str, weight: float, *, now_s: float) -> bool:
        """Whether it was lent already; whatever is answered, it is noted as wanted."""
        self._note(tenant, weight, now_s)
        for loan in self._loans.get(tenant, ()):
            if loan.left >= weight and now_s < loan.until_s:
                loan.left -= weight
                return True
        return False

    def wanted(self, tenant: str, *, now_s: float) -> float:
        """How much to borrow now: what the tenant spent lately, so that who is idle has nothing
        lying here; 0.0 while half of that is left."""
        period, recent, before = self._lately.get(tenant, (0, 0.0, 0.0))
        age = int(now_s // LEND_S) - period
        lately = recent + before if age == 0 else recent if age == 1 else 0.0
        most = min(MOST, lately)
        left = sum(loan.left for loan in self._loans.get(tenant, ()) if now_s < loan.until_s)
        return most - left if left <= most / 2 else 0.0

    def add(self, loan: Loan) -> None:
        """Something was borrowed."""
        self._loans.setdefault(loan.tenant, []).append(loan)

    def over(self, *, now_s: float, all_of_them: bool = False) -> list[Loan]:
        """What has to be given back, and is not to be spent here any more."""
        gone = []
        for tenant, loans in list(self._loans.items()):
            kept = [loan for loan in loans if now_s < loan.until_s and not all_of_them]
            gone += [loan for loan in loans[: len(loans) - len(kept)] if loan.left > 0]
            if kept:
                self._loans[tenant] = kept
            else:
                del self._loans[tenant]
        return gone

    def _note(self, tenant: str, weight: float, now_s: float) -> None:
        now = int(now_s // LEND_S)
        period, recent, before = self._lately.get(tenant, (now, 0.0, 0.0))
        if period != now:
            if len(self._lately) > len(self._loans) + 100:  # of those who trade no more
                self._lately = {
                    who: kept for who, kept in self._lately.items() if now - kept[0] <= 1
                }
            recent, before = 0.0, recent if now - period == 1 else 0.0
        self._lately[tenant] = (now, recent + weight, before)
