"""What commands change in the ledger, worked out in memory: from what was read, to what is written.

Nothing is read or written here. Commands are carried out one after the other, each on what those
before it left.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field

from handlers.accounting.double_entry import Posting
from handlers.accounting.errors import ConflictError
from handlers.accounting.rules import Account, Command, Decision, Hold, Kind, decide

OPENED_BY = frozenset({Kind.OPEN, Kind.DEPOSIT})
"""The kinds of command that make an account where there is none: a deposit does, too."""

OF_COMMAND = tuple(each.name for each in dataclasses.fields(Command) if each.name != "key")
"""What makes two commands the same."""

AccountKey = tuple[int, str]
"""The number of an account, and its currency."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command, now or when it came for the first time."""

    decision: Decision
    currency: str | None = None
    """The currency of what was posted, or is held."""
    repeated: bool = False
    """It came before: the decision says what was answered then, and nothing was done now."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A command that was carried out, and what was answered."""

    command: Command
    done: bool
    reason: str

    def conflict(self, command: Command) -> str | None:
        """Say how a command of the same key differs from it; None where it does not."""
        before = self.command
        differences = [
            f"{name} is {getattr(before, name)} in the ledger and {getattr(command, name)} here"
            for name in OF_COMMAND
            if getattr(before, name) != getattr(command, name)
        ]
        if not differences:
            return None
        return f"{command.key} is in the ledger already: {'; '.join(differences)}"


@dataclass(slots=True)
class Books:
    """What the ledger has of some commands' keys, orders and accounts, and what is new of it."""

    noted: dict[str, Noted]
    holds: dict[str, Hold]
    accounts: dict[AccountKey, Account]
    new_commands: list[tuple[Noted, dt.datetime]] = field(default_factory=list)
    new_sides: list[tuple[str, str, Posting]] = field(default_factory=list)
    """Of a business key, in a currency."""
    changed_holds: dict[str, Hold | None] = field(default_factory=dict)
    """As they were before, by order."""
    changed_accounts: dict[AccountKey, Account] = field(default_factory=dict)
    """As they were before."""

    def carry_out(self, command: Command, now: dt.datetime) -> Outcome:
        """Carry a command out, unless it is already.

        :raises ConflictError: its key, or its order, is in the ledger with another content
        :raises RefusedError: it cannot be carried out, and is of a kind that has no answer
        """
        if (there := self.noted.get(command.key)) is not None:
            if problem := there.conflict(command):
                raise ConflictError(problem)
            before = Decision(there.done, there.reason)
            return Outcome(before, there.command.currency, repeated=True)
        hold = self.hold_of(command)
        currency = command.currency or (hold.currency if hold is not None else None)
        account = None if currency is None else self._account(command, currency)
        decision = decide(command, account, hold)
        noted = self.noted[command.key] = Noted(command, decision.done, decision.reason)
        self.new_commands.append((noted, now))
        if decision.hold is not None:
            self.changed_holds.setdefault(decision.hold.order_id, hold)
            self.holds[decision.hold.order_id] = decision.hold
        if account is not None and decision.done:
            self._change(account, decision)
        if currency is not None:
            self.new_sides += ((command.key, currency, each) for each in decision.postings)
        return Outcome(decision, currency)

    def hold_of(self, command: Command) -> Hold | None:
        """Return the hold of a command's order, if there is one."""
        return None if command.order_id is None else self.holds.get(command.order_id)

    def _account(self, command: Command, currency: str) -> Account | None:
        account = self.accounts.get((command.account_id, currency))
        if account is None and command.kind in OPENED_BY:
            return Account(command.account_id, currency)
        return account

    def _change(self, account: Account, decision: Decision) -> None:
        key = account.account_id, account.currency
        self.changed_accounts.setdefault(key, account)
        self.accounts[key] = dataclasses.replace(
            account,
            overdraft=account.overdraft if decision.overdraft is None else decision.overdraft,
            balance=account.balance + decision.balance,
            held=account.held + decision.held,
        )
