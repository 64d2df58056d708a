"""Who acts through /exchange: their accounts, agents, and what the faucet promised them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from streaming.simulator.engine.accounts import PPM, USDC_DECIMALS, Account, Role
from streaming.simulator.engine.block import Event, Stream
from streaming.simulator.engine.coins import decimal_text
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.trading.nonces import Nonces

MAX_CUSTOMERS = 10_000
TAKER_PPM, MAKER_PPM = 450, 150  # the exchange's lowest tier
MAX_NAMED_AGENTS = 3


@dataclass(frozen=True, slots=True)
class Agent:
    """A wallet that may trade for another; `valid_until_ms` None is for ever."""

    address: str
    valid_until_ms: int | None = None


@dataclass(slots=True)
class Customer:
    """One user from outside. `agents` by name ("" is the unnamed one), `builders` the fee each may
    take in tenths of a basis point; `cancel_at_ms` is when all orders end by themselves.
    """

    account: Account
    agents: dict[str, Agent] = field(default_factory=dict)
    builders: dict[str, int] = field(default_factory=dict)
    cancel_at_ms: int | None = None
    cancels: deque[int] = field(default_factory=deque)
    spared_at_ms: int = 0


class Customers:
    """Finds and opens accounts. `faucet_usdc` is what a new user is given, 0 for nothing.

    An account is promised when its balance is first asked for, and opened, with a deposit in that
    block, when it first acts: questions leave no trace in the node's files.
    """

    def __init__(self, exchange: Exchange, *, faucet_usdc: int) -> None:
        self._exchange = exchange
        self._faucet_usdc = faucet_usdc
        self._promised: dict[str, Account] = {}
        self._masters: dict[str, str] = {}  # by agent
        self._nonces: dict[str, Nonces] = {}
        self.opened: dict[str, Customer] = {}

    def account(self, address: str) -> Account | None:
        """Whoever has that address, simulated users and promised accounts among them."""
        return self._exchange.accounts.get(address) or self._promised.get(address)

    def promise(self, address: str, usdc: int | None = None) -> Account | None:
        """The account of an address, by the faucet if it has none; `usdc` instead of the faucet's
        own amount. None where the faucet is dry.
        """
        account = self.account(address)
        micro = (self._faucet_usdc if usdc is None else usdc) * PPM
        is_full = len(self._promised) + len(self.opened) >= MAX_CUSTOMERS
        if account is not None or not micro or is_full or address in self._masters:
            return account
        account = self._promised[address] = new_account(address, micro)
        return account

    def master(self, signer: str, *, now_ms: int) -> str | None:
        """Whose account a signer acts on: their own, or the one they are an agent of."""
        master = self._masters.get(signer)
        if master is None:
            is_ours = signer in self.opened or signer in self._promised
            return signer if is_ours else None
        for agent in self.opened[master].agents.values():
            if agent.address == signer:
                is_valid = agent.valid_until_ms is None or now_ms < agent.valid_until_ms
                return master if is_valid else None
        return None

    def nonces(self, signer: str) -> Nonces:
        """The nonces of a known signer."""
        return self._nonces.setdefault(signer, Nonces())

    def open(self, address: str) -> Customer:
        """The customer of a promised or open account, opened in the current block."""
        customer = self.opened.get(address)
        if customer is None:
            account = self._promised.pop(address)
            customer = self._open(account)
            self.tell((account,), {"type": "deposit", "usdc": usdc_text(account.usdc)})
        return customer

    def receiver(self, address: str) -> Account:
        """The account to send something to, opened empty if there is none."""
        if address in self._promised:
            return self.open(address).account
        found = self._exchange.accounts.get(address)
        return found or self._open(new_account(address, 0)).account

    def _open(self, account: Account) -> Customer:
        self._exchange.accounts[account.address] = account
        customer = self.opened[account.address] = Customer(account)
        return customer

    def approve(self, customer: Customer, name: str, agent: Agent) -> str | None:
        """Let an agent act for a customer, in place of the one of that name; or why not."""
        others = [each for each in customer.agents if each and each != name]
        if name and len(others) >= MAX_NAMED_AGENTS:
            return "Too many extra agents."
        is_user = self.account(agent.address) is not None
        if is_user or self._masters.get(agent.address, customer.account.address) != (
            customer.account.address
        ):
            return "Extra agent already used."
        previous = customer.agents.get(name)
        if previous is not None and previous.address != agent.address:
            self._masters.pop(previous.address, None)
            self._nonces.pop(previous.address, None)
        customer.agents[name] = agent
        self._masters[agent.address] = customer.account.address
        return None

    def agents(self, address: str) -> list[Event]:
        """`extraAgents`: the named ones."""
        customer = self.opened.get(address)
        return [
            {"name": name, "address": agent.address, "validUntil": agent.valid_until_ms}
            for name, agent in (customer.agents.items() if customer else ())
            if name
        ]

    def builder_fee(self, address: str, builder: str) -> int:
        """`maxBuilderFee`, in tenths of a basis point."""
        customer = self.opened.get(address)
        return customer.builders.get(builder, 0) if customer else 0

    def tell(self, parties: tuple[Account, ...], delta: Event) -> None:
        """Write a ledger row for everybody it concerns."""
        exchange = self._exchange
        tx_hash, time_ms = exchange.next_hash(), exchange.block.time_ms
        for account in parties:
            account.ledger.append({"time": time_ms, "hash": tx_hash, "delta": delta})
        users = [account.address for account in parties]
        inner: Event = {"LedgerUpdate": {"users": users, "delta": delta}}
        event: Event = {"time": exchange.iso_time, "hash": tx_hash, "inner": inner}
        exchange.block.add_rare(Stream.MISC, event)


def new_account(address: str, micro_usdc: int) -> Account:
    """A customer's account with nothing but USDC."""
    account = Account(
        address=address,
        role=Role.CUSTOMER,
        taker_ppm=TAKER_PPM,
        maker_ppm=MAKER_PPM,
        usdc=micro_usdc,
    )
    account.balance("USDC")
    return account


def usdc_text(micro: int) -> str:
    """Micro-USDC as the exchange prints it."""
    return decimal_text(micro, USDC_DECIMALS)
