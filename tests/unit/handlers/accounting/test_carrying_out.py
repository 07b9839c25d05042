"""Commands carried out in a transaction: each business key once, in either database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.audit import problems
from handlers.accounting.books import Outcome
from handlers.accounting.carrying_out import account, carry_out_all
from handlers.accounting.database import WRITING, open_database
from handlers.accounting.errors import ConflictError, RacedError, RefusedError
from handlers.accounting.rules import Account, Command, Kind
from handlers.accounting.schema import commands, sides
from tests.unit.handlers.entries import NOW, carry_out, entry, post, writing


def command(
    kind: Kind, own: str = "x", amount: str | None = None, account: int = 7, currency: str = "CZK"
) -> Command:
    """One under the key that the service gives it; a refund `x` is of order `x`."""
    is_of_order = kind in (Kind.HOLD, Kind.EXECUTE, Kind.RELEASE, Kind.REFUND)
    has_money = kind not in (Kind.EXECUTE, Kind.RELEASE)
    return Command(
        f"{kind}-{account}-{currency}" if kind is Kind.OPEN else f"{kind}-{own}",
        kind,
        account,
        Decimal(amount or "10.00") if has_money else None,
        currency if has_money else None,
        own.partition(".")[0] if is_of_order else None,
    )


async def carried_out(connection: AsyncConnection, *asked: Command) -> list[Outcome]:
    return [await carry_out(connection, each, NOW) for each in asked]


async def known(connection: AsyncConnection, currency: str = "CZK") -> Account:
    found = await account(connection, 7, currency)
    assert found is not None
    return found


async def test_a_command_that_comes_again_gets_its_answer_and_does_nothing(database: str) -> None:
    """Also where it would be answered otherwise now: what was refused stays refused."""
    refused = command(Kind.HOLD, "y", "90.00")
    asked = [
        command(Kind.DEPOSIT, amount="100.00"),
        command(Kind.HOLD, amount="60.00"),
        refused,
        command(Kind.EXECUTE),
        command(Kind.DEPOSIT, "more", "100.00"),
        command(Kind.REFUND, amount="5.00"),
        command(Kind.RELEASE),
        command(Kind.CHARGE, amount="1.00"),
        command(Kind.INTEREST, amount="0.50"),
    ]
    async with writing(database) as connection:
        first = await carried_out(connection, *asked)
        before = await known(connection)
    async with writing(database) as connection:
        second = await carried_out(connection, *asked)
        assert await known(connection) == before
    assert all(each.repeated for each in second)
    answers = [(each.decision.done, each.decision.reason) for each in first]
    assert [(each.decision.done, each.decision.reason) for each in second] == answers
    assert answers[2] == (False, "account 7 in CZK has 40.00 available, not 90.00")
    assert (before.balance, before.held) == (Decimal("144.50"), Decimal(0))


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (Kind.DEPOSIT, {"amount": Decimal("10.01")}),
        (Kind.DEPOSIT, {"account_id": 8}),
        (Kind.HOLD, {"currency": "EUR"}),
        (Kind.EXECUTE, {"partner_account": "2"}),
        (Kind.REFUND, {"order_id": "y"}),
        (Kind.OPEN, {"amount": Decimal(0)}),
    ],
)
async def test_another_content_under_the_same_key_is_a_conflict(
    database: str, kind: Kind, other: dict[str, object]
) -> None:
    """The error says what differs, and nothing changes."""
    first = command(kind)
    async with writing(database) as connection:
        await carried_out(connection, command(Kind.DEPOSIT, "before"), first)
        before = await known(connection)
        (name,) = other
        with pytest.raises(ConflictError, match=f"{first.key} is in the ledger already: {name}"):
            await carried_out(connection, replace(first, **other))  # type: ignore[arg-type]
        assert await known(connection) == before


async def test_an_amount_that_is_written_otherwise_is_the_same(database: str) -> None:
    """10.5 and 10.50 are one amount."""
    async with writing(database) as connection:
        await carried_out(connection, command(Kind.DEPOSIT, amount="10.5"))
        (again,) = await carried_out(connection, command(Kind.DEPOSIT, amount="10.50"))
        assert again.repeated


async def test_the_banks_entries_count_in_the_balance(database: str) -> None:
    """An account that is known by them alone pays in CZK, without an overdraft."""
    async with writing(database) as connection:
        for number in range(3):
            await post(connection, entry(number, "33.33"))
        assert await known(connection) == Account(7, "CZK", balance=Decimal("99.99"))
        held, refused, euros = await carried_out(
            connection,
            command(Kind.HOLD, "x", "99.99"),
            command(Kind.HOLD, "y", "0.01"),
            command(Kind.HOLD, "z", "0.01", currency="EUR"),
        )
        assert (held.decision.done, refused.decision.done) == (True, False)
        assert euros.decision.reason == "account 7 is not known in EUR"
        await carried_out(connection, command(Kind.EXECUTE))
        await post(connection, entry(3, "0.05"))
        assert (await known(connection)).balance == Decimal("0.05")


async def test_currencies_of_an_account_are_kept_apart(database: str) -> None:
    """What is there in one cannot be paid in another."""
    async with writing(database) as connection:
        await carried_out(
            connection,
            command(Kind.OPEN, amount="5.00", currency="EUR"),
            command(Kind.DEPOSIT, amount="9.00", currency="USD"),
        )
        await post(connection, entry(1))
        found = [(await known(connection, each)).available for each in ("CZK", "EUR", "USD")]
        assert found == [Decimal("10.00"), Decimal("5.00"), Decimal("9.00")]
        (refused,) = await carried_out(connection, command(Kind.HOLD, amount="9.00"))
        assert refused.decision.done
        (refused,) = await carried_out(
            connection, command(Kind.HOLD, "y", amount="9.00", currency="EUR")
        )
        assert not refused.decision.done


async def test_an_account_that_a_deposit_opened_gets_its_overdraft_later(database: str) -> None:
    """Money that was paid in is not refused because its command was faster than another one."""
    async with writing(database) as connection:
        await carried_out(connection, command(Kind.DEPOSIT, amount="1.00"))
        assert (await known(connection)).available == Decimal("1.00")
        await carried_out(connection, command(Kind.OPEN, amount="2.00"))
        assert (await known(connection)).available == Decimal("3.00")


async def test_holds_at_the_same_time_never_hold_more_than_there_is(database: str) -> None:
    """Whoever comes second waits for the first one's commit, and sees what it left."""
    async with writing(database) as connection:
        await carried_out(connection, command(Kind.DEPOSIT, amount="100.00"))

    async def hold(number: int) -> bool:
        async with writing(database) as connection:
            asked = command(Kind.HOLD, f"o{number}", "30.00")
            return (await carry_out(connection, asked, NOW)).decision.done

    answers = await asyncio.gather(*(hold(number) for number in range(8)))
    assert answers.count(True) == 3
    async with writing(database) as connection:
        assert (await known(connection)).available == Decimal("10.00")
        assert [each async for each in problems(connection)] == []


async def test_one_command_at_the_same_time_has_its_effect_once(database: str) -> None:
    """Those that raced it are told so, or that it is done; again, they get its answer."""

    async def deposit() -> bool:
        try:
            async with writing(database) as connection:
                return not (await carry_out(connection, command(Kind.DEPOSIT), NOW)).repeated
        except RacedError:
            return False

    answers = await asyncio.gather(*(deposit() for _ in range(8)))
    assert answers.count(True) == 1
    async with writing(database) as connection:
        assert (await known(connection)).balance == Decimal("10.00")


async def test_a_hold_and_its_release_from_another_account_do_not_both_win(database: str) -> None:
    """They lock different accounts, and are told apart by the order's own row."""
    async with writing(database) as connection:
        await carried_out(connection, command(Kind.DEPOSIT))
    started = asyncio.Event()

    async def release() -> None:
        async with writing(database) as connection:
            await carry_out(connection, command(Kind.RELEASE, account=8), NOW)
            started.set()

    async def hold() -> bool:
        await started.wait()
        try:
            async with writing(database) as connection:
                return (await carry_out(connection, command(Kind.HOLD), NOW)).decision.done
        except RacedError:
            return False

    assert (await asyncio.gather(release(), hold()))[1] is False
    async with writing(database) as connection:
        assert (await known(connection)).held == 0


USUAL = [
    command(Kind.OPEN, amount="5.00"),
    command(Kind.DEPOSIT, "1", "20.00"),
    command(Kind.DEPOSIT, "2", "10.00"),
    *(command(Kind.HOLD, own, "20.00") for own in ("a", "b", "c")),
    command(Kind.CHARGE, "1", "10.00"),
    command(Kind.INTEREST, "1", "5.00"),
    *(command(Kind.EXECUTE, own) for own in ("a", "b", "c")),
    *(command(Kind.RELEASE, own) for own in ("b", "c")),
    command(Kind.CHARGE, "2", "20.00"),
    *(command(Kind.REFUND, own, "15.00") for own in ("a", "a.2", "b", "b.2")),
]
"""So little money that much is refused, and each in whatever order, twice."""

ODD = st.builds(
    command,
    st.sampled_from(Kind),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["5.00", "20.00"]),
    st.sampled_from([7, 8]),
    st.sampled_from(["CZK", "EUR"]),
)


def sequence(seed: int, odd: list[Command]) -> list[list[Command]]:
    """All of the usual ones twice, and the odd ones; a little out of order, or wholly.

    They come one by one, or some at once.
    """
    chance = Random(seed)
    far = chance.choice([2, 8, 40])
    places = [(number + chance.uniform(0, far), number) for number in range(len(USUAL))]
    first = [USUAL[number] for _, number in sorted(places)]
    asked = [*first, *chance.sample(USUAL, len(USUAL))]
    for each in odd:
        asked.insert(chance.randrange(len(asked)), each)
    most, together = chance.choice([1, 1, 4, 40]), list[list[Command]]()
    while asked:
        many = chance.randint(1, most)
        together.append(asked[:many])
        del asked[:many]
    return together


class Books:
    """What a sequence of commands must come to, kept as simply as can be."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[bool, str]] = {}
        self.balances: dict[tuple[int, str], Decimal] = {}
        self.posted: set[str] = set()

    async def carry_out(self, connection: AsyncConnection, some: list[Command]) -> None:
        """Carry some out at once, and check all that can be said of each."""
        outcomes = await carry_out_all(connection, some, NOW)
        for place, (asked, outcome) in enumerate(zip(some, outcomes, strict=True), 1):
            if isinstance(outcome, ConflictError):
                assert asked.key in self.answers or asked.order_id is not None
            elif isinstance(outcome, RefusedError):
                assert asked.kind in (Kind.CHARGE, Kind.INTEREST)
            else:
                await self.note(connection, asked, outcome, is_last=place == len(some))

    async def note(
        self, connection: AsyncConnection, asked: Command, outcome: Outcome, *, is_last: bool
    ) -> None:
        """Note an outcome, and check it."""
        answer = (outcome.decision.done, outcome.decision.reason)
        assert outcome.repeated == (asked.key in self.answers)
        assert self.answers.setdefault(asked.key, answer) == answer
        if outcome.decision.postings:
            assert asked.key not in self.posted
            self.posted.add(asked.key)
            of = (asked.account_id, outcome.currency or "")
            self.balances[of] = self.balances.get(of, Decimal(0)) + outcome.decision.balance
        if outcome.repeated or not outcome.decision.done or not is_last:
            return
        if asked.kind in (Kind.HOLD, Kind.EXECUTE) and outcome.currency is not None:
            found = await account(connection, asked.account_id, outcome.currency)
            assert found is not None
            assert found.balance >= -found.overdraft
            left = found.balance + found.overdraft - found.held
            assert asked.kind is Kind.EXECUTE or left >= 0


def test_whatever_comes_in_whatever_order_the_books_add_up(database: str) -> None:
    """Postings, balances, holds and refunds agree; each key had one effect; no order overdrew."""

    async def check(connection: AsyncConnection, together: list[list[Command]]) -> None:
        books = Books()
        for some in together:
            await books.carry_out(connection, some)
        assert [each async for each in problems(connection)] == []
        for (account_id, currency), balance in books.balances.items():
            found = await account(connection, account_id, currency)
            assert found is not None
            assert found.balance == balance
        keys = select(sides.c.business_key, func.count()).group_by(sides.c.business_key)
        counts = [tuple(row) for row in await connection.execute(keys)]
        assert sorted(counts) == [(key, 2) for key in sorted(books.posted)]
        noted = set(await connection.scalars(select(commands.c.business_key)))
        assert noted == set(books.answers)

    # As they are found: to shrink one takes minutes.
    @settings(max_examples=40, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(st.builds(sequence, st.integers(0, 10**9), st.lists(ODD, max_size=5)))
    def hold_for(together: list[list[Command]]) -> None:
        runner.run(in_a_transaction(together))

    async def in_a_transaction(together: list[list[Command]]) -> None:
        async with engine.connect() as connection:
            await connection.execution_options(**WRITING)
            await connection.begin()
            await check(connection, together)
            await connection.rollback()

    with asyncio.Runner() as runner:
        opened = open_database(database)
        engine = runner.run(opened.__aenter__())
        try:
            hold_for()
        finally:
            runner.run(opened.__aexit__(None, None, None))
