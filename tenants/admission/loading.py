"""What the database says was used: asked beside the settlements, tenant by tenant, so that one
question that fails or hangs keeps no other tenant waiting."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from tenants.admission.account import Account, Used
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

#: Tenant, start, end → what was used and is charged; runs in a thread.
LoadUsed = Callable[[int, datetime, datetime], list[Used]]

#: Questions on their way at one time.
AT_ONCE = 4
DEADLINE_S = 5.0
#: Of whom a question failed, nothing is asked for so long.
PAUSE = timedelta(seconds=5)
#: A settlement waits so long for what it asks, as a database that is well takes. What takes longer
#: counts in the next ones.
WAIT_S = 0.25


class Loading:
    """One per process, used in its event loop."""

    def __init__(self, load_used: LoadUsed, *, now: Callable[[], datetime]) -> None:
        self._load_used = load_used
        self._now = now
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._again_at: dict[int, datetime] = {}

    async def ask(self, wanted: Mapping[int, Sequence[Account]]) -> None:
        """Load these accounts of tenants. Never raises, and waits a moment at most."""
        now, started = self._now(), []
        for tenant_id, accounts in wanted.items():
            if tenant_id in self._asking or now < self._again_at.get(tenant_id, now):
                continue
            task = asyncio.create_task(self._ask(tenant_id, accounts))
            self._asking[tenant_id] = task
            started.append(task)
        if started:
            await asyncio.wait(started, timeout=WAIT_S)

    async def aclose(self) -> None:
        """Cancel what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, tenant_id: int, accounts: Sequence[Account]) -> None:
        spans: dict[tuple[datetime, datetime], list[Account]] = defaultdict(list)
        for account in accounts:
            spans[account.cap.starts_at, account.cap.ends_at].append(account)
        try:
            async with self._turns:
                for span, alike in spans.items():
                    async with asyncio.timeout(DEADLINE_S):
                        rows = await asyncio.to_thread(self._load_used, tenant_id, *span)
                    for account in alike:
                        account.load(rows, at=self._now())
            self._again_at.pop(tenant_id, None)
        except Exception as error:
            stop_if_cancelled()
            self._again_at[tenant_id] = self._now() + PAUSE
            log.warning("used_not_loaded", tenant=tenant_id, error=type(error).__name__)
        finally:
            self._asking.pop(tenant_id, None)
