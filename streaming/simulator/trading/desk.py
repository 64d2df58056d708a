"""Signed actions in, the exchange's answers out: what is wrong with an envelope is said at once,
the rest runs in the next block and is answered when that block is written. Pure, no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from streaming.signing.recovery import Unrecoverable, recover_on
from streaming.signing.typed_data import Network
from streaming.signing.user_signed import inner_nonce
from streaming.simulator.engine.accounts import PPM, Account
from streaming.simulator.engine.block import Event
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.trading import replies, wire
from streaming.simulator.trading.arrivals import Arrivals
from streaming.simulator.trading.customers import Customer, Customers
from streaming.simulator.trading.money import MoneyDesk, check_shape
from streaming.simulator.trading.nonces import DAY_MS
from streaming.simulator.trading.orders import OrderDesk, Refusal
from streaming.simulator.trading.twaps import CustomerTwaps
from streaming.simulator.trading.wire import Envelope

REQUESTS, CANCELS_MORE = 10_000, 100_000
SPARED_EVERY_MS = 10_000  # an exhausted address may still send one in so long
EXPIRED_WEIGHT = 5
SOONEST_CANCEL_MS, CANCELS_A_DAY = 5_000, 10
CANCELS = frozenset({"cancel", "cancelByCloid"})
BATCHES = {"order": "orders", "cancel": "cancels", "cancelByCloid": "cancels"}
BATCHES["batchModify"] = "modifies"

Prepared = Callable[[Customer], Event]


class Pending:
    """An accepted envelope that waits for its block. `on_reply` is called once, with the reply."""

    def __init__(self, envelope: Envelope, *, user: str, run: Prepared) -> None:
        self.envelope, self.user, self.run = envelope, user, run
        self.reply: Event | None = None
        self.on_reply: Callable[[Event], None] = lambda reply: None


class TradingDesk:
    """The exchange's side of /exchange. `network` is the one whose signatures count."""

    def __init__(self, exchange: Exchange, *, network: Network, faucet_usdc: int) -> None:
        self._exchange, self._network = exchange, network
        self.arrivals = Arrivals()
        self.customers = Customers(exchange, faucet_usdc=faucet_usdc)
        self._orders = OrderDesk(exchange)
        self._money = MoneyDesk(exchange, self.customers)
        self._twaps = CustomerTwaps(exchange)
        self._waiting: list[Pending] = []
        self._run: list[Pending] = []

    # --- at the door ------------------------------------------------------------------------------

    def receive(self, body: object) -> Event | Pending:
        """A refusal at once, or what waits for the next block. A nonce is used up by then. Raises
        Unparsable for what the exchange answers with 422.
        """
        envelope = wire.envelope(body)
        run = self._prepare(envelope)
        try:
            signer = recover_on(envelope.body, self._network)
        except Unrecoverable:
            return replies.refused("Unable to recover signer.")  # ours
        user = self._user(envelope, signer)
        if user is None:
            return replies.unknown_signer(signer, is_user_signed=envelope.is_user_signed)
        refusal = self._refusal(envelope, signer)
        if refusal is not None:
            return replies.refused(refusal)
        if envelope.kind == "noop":
            # Its nonce is all there is to it: no book moves, so nobody has to wait for a block.
            return replies.done()
        pending = Pending(envelope, user=user, run=run)
        self._waiting.append(pending)
        return pending

    def _user(self, envelope: Envelope, signer: str) -> str | None:
        if envelope.is_user_signed:
            is_master = self.customers.master(signer, now_ms=self._now_ms) == signer
            return signer if is_master else None
        return self.customers.master(signer, now_ms=self._now_ms)

    def _refusal(self, envelope: Envelope, signer: str) -> str | None:
        if envelope.is_user_signed and inner_nonce(envelope.action) != envelope.nonce:
            return "Nonce of the action differs from the nonce of the envelope."  # ours
        if envelope.vault is not None:
            return f"Vault not registered: {envelope.vault}"
        return self.customers.nonces(signer).take(envelope.nonce, now_ms=self._now_ms)

    @property
    def _now_ms(self) -> int:
        return self._exchange.block.time_ms

    # --- in a block -------------------------------------------------------------------------------

    def run_block(self) -> None:
        """Run everything that waits, oldest first, in the open block."""
        now_ms = self._now_ms
        for customer in self.customers.opened.values():
            if customer.cancel_at_ms is not None and now_ms >= customer.cancel_at_ms:
                customer.cancel_at_ms = None
                customer.cancels.append(now_ms)
                self._orders.cancel_all(customer.account, "scheduledCancel")
            if customer.account.orders:
                self._orders.sweep(customer.account)
        self._twaps.run_block()
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            pending.reply = self._act(pending)
        self._run += waiting

    def answer(self) -> None:
        """Hand out the replies of blocks that are written."""
        run, self._run = self._run, []
        for pending in run:
            if pending.reply is not None:
                pending.on_reply(pending.reply)

    def _act(self, pending: Pending) -> Event:
        envelope, customer = pending.envelope, self.customers.open(pending.user)
        account = customer.account
        used, weight = account.requests, self._weight(envelope)
        expires_ms = envelope.expires_after_ms
        if expires_ms is not None and self._now_ms > expires_ms:
            account.requests = used + EXPIRED_WEIGHT * weight
            return replies.refused(f"Action expired: expiresAfter was {expires_ms}.")  # ours
        refusal = self._exhausted(customer, envelope.kind)
        if refusal is None:
            reply = pending.run(customer)
            # An order counts itself as it is made; a batch counts what was asked for.
            account.requests = used + weight
            if envelope.kind not in BATCHES and envelope.kind != "modify":
                self._exchange.block.actions.append((account.address, envelope.action))
            return reply
        return refusal

    def _weight(self, envelope: Envelope) -> int:
        key = BATCHES.get(envelope.kind)
        rows = envelope.action.get(key) if key else None
        return max(1, len(rows)) if isinstance(rows, list) else 1

    def _exhausted(self, customer: Customer, kind: str) -> Event | None:
        account = customer.account
        cap = requests_cap(account)
        if kind in CANCELS:
            cap = min(cap + CANCELS_MORE, 2 * cap)
        if account.requests < cap:
            return None
        if self._now_ms - customer.spared_at_ms >= SPARED_EVERY_MS:
            customer.spared_at_ms = self._now_ms
            return None
        return replies.too_many_requests(account.requests + 1, cap, account.volume)

    # --- actions ----------------------------------------------------------------------------------

    def _prepare(self, envelope: Envelope) -> Prepared:
        """The action, read: what is malformed is known before it waits. Raises Unparsable."""
        action, kind = envelope.action, envelope.kind
        if kind == "order":
            return self._prepare_order(action)
        if kind == "cancel":
            rows = [
                (wire.number(r, "a"), wire.number(r, "o")) for r in wire.batch(action, "cancels")
            ]
            return lambda customer: self._cancel(customer, rows)
        if kind == "cancelByCloid":
            named = [
                (wire.number(r, "asset"), wire.cloid(r, "cloid"))
                for r in wire.batch(action, "cancels")
            ]
            return lambda customer: self._cancel(customer, named)
        if kind in ("modify", "batchModify"):
            given = [action] if kind == "modify" else wire.batch(action, "modifies")
            wishes = [(wire.order_key(row), wire.wish(row.get("order"))) for row in given]
            return lambda customer: self._modify(customer, wishes, is_batch=kind == "batchModify")
        if kind == "scheduleCancel":
            time_ms = None if action.get("time") is None else wire.number(action, "time")
            return lambda customer: self._schedule(customer, time_ms)
        if kind in ("twapOrder", "twapCancel"):
            return self._prepare_twap(action, kind)
        handler = self._money.handlers.get(kind)
        if handler is None:
            return lambda customer: replies.refused(f"The simulator does not know {kind}.")  # ours
        check_shape(kind, action)
        return lambda customer: handler(customer, action)

    def _prepare_order(self, action: Event) -> Prepared:
        wishes = [wire.wish(row) for row in wire.batch(action, "orders")]
        grouping = wire.grouping(action)
        builder: tuple[str, int] | None = None
        if action.get("builder") is not None:
            given = wire.fields(action["builder"])
            builder = wire.address(given, "b"), wire.number(given, "f")

        def run(customer: Customer) -> Event:
            if builder is not None and builder[1] > customer.builders.get(builder[0], -1):
                return replies.refused(replies.BUILDER)
            try:
                rows = self._orders.place(customer.account, wishes, grouping)
            except Refusal as refusal:
                rows = [{"error": str(refusal)}]
            return replies.statuses("order", rows)

        return run

    def _cancel(
        self, customer: Customer, rows: list[tuple[int, int]] | list[tuple[int, str]]
    ) -> Event:
        if not rows:
            return replies.statuses("cancel", [{"error": "Batch is empty."}])  # ours
        done = [self._orders.cancel(customer.account, asset, key) for asset, key in rows]
        return replies.statuses("cancel", done)

    def _modify(
        self, customer: Customer, wishes: list[tuple[int | str, wire.Wish]], *, is_batch: bool
    ) -> Event:
        rows: list[object] = []
        for key, wish in wishes:
            try:
                rows.append(self._orders.modify(customer.account, key, wish))
            except Refusal as refusal:
                rows.append({"error": str(refusal)})
        if is_batch:
            return replies.statuses("order", rows)
        row = rows[0]
        if isinstance(row, dict) and "error" in row:
            return replies.refused(str(row["error"]))
        return replies.done()

    def _schedule(self, customer: Customer, time_ms: int | None) -> Event:
        now_ms = self._now_ms
        if time_ms is None:
            customer.cancel_at_ms = None
            return replies.done()
        if time_ms < now_ms + SOONEST_CANCEL_MS:
            return replies.refused("Scheduled cancel must be at least 5 seconds ahead.")  # ours
        while customer.cancels and customer.cancels[0] < now_ms - now_ms % DAY_MS:
            customer.cancels.popleft()
        if len(customer.cancels) >= CANCELS_A_DAY:
            return replies.refused("Too many scheduled cancels today.")  # ours
        customer.cancel_at_ms = time_ms
        return replies.done()

    def _prepare_twap(self, action: Event, kind: str) -> Prepared:
        twap = wire.fields(action.get("twap")) if kind == "twapOrder" else action
        coin = self._orders.coin(wire.number(twap, "a"))
        if coin is None:
            return lambda customer: replies.refused(f"Asset {twap['a']} cannot be traded.")  # ours
        if kind == "twapCancel":
            number = wire.number(twap, "t")
            return lambda customer: self._twaps.cancel(customer.account, coin, number)
        wire.amount(twap, "s"), wire.number(twap, "m")
        for key in ("b", "r", "t"):
            wire.flag(twap, key)
        return lambda customer: self._twaps.begin(customer.account, coin, twap)


def requests_cap(account: Account) -> int:
    """How many requests an address may have sent by now."""
    return REQUESTS + account.volume // PPM + account.bought_requests
