"""The billing service, its handlers called directly in a store's transaction."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData

from handlers import billing
from handlers.messages import Charge, CloseMonth, Currency, Posted, Side
from handlers.monthly.month import Month
from handlers.monthly.statement import FEES
from handlers.records import billing as records
from mqkit import Reject
from mqkit.message import Message
from mqkit.store import Store
from tests.postgres import PostgresServer
from tests.unit.handlers.services import HandClock, emptied, opened

NOVEMBER = Month(2026, 11)
OVER = NOVEMBER.end


def posted(
    number: int,
    amount: str = "10.00",
    account: int = 576,
    at: dt.datetime = NOVEMBER.start,
    currency: Currency = Currency.CZK,
) -> Posted:
    """A deposit."""
    credit = Decimal(amount)
    return Posted(
        business_key=f"deposit-{number}",
        kind="deposit",
        account_id=account,
        sides=(
            Side(account=f"customer:{account}", currency=currency, amount=credit),
            Side(account="bank:cash", currency=currency, amount=-credit),
        ),
        posted_at=at,
    )


class Billing:
    """The service's handlers on a store, with what they published."""

    def __init__(self, store: Store, folder: Path, clock: HandClock | None = None) -> None:
        self.store, self.folder = store, folder
        self.clock = clock or HandClock(OVER)
        self.published: list[Message] = []

    async def begin(self, month: Month = NOVEMBER) -> None:
        """Open the first month."""
        async with self.store.transaction() as transaction:
            await records.open_month(transaction.connection, month)

    async def record(self, *of: Posted) -> None:
        """Handle events of the ledger."""
        for each in of:
            async with self.store.transaction() as transaction:
                await billing.record(each, transaction)

    async def close(self, month: Month = NOVEMBER) -> list[str]:
        """Close a month, and return the routing keys of what that published."""
        async with self.store.transaction() as transaction:
            command = CloseMonth(month=str(month))
            await billing.close_month(command, transaction, self.clock, self.folder)
            messages = [message for _, message in transaction.messages]
        self.published += messages
        return [message.routing_key for message in messages]

    def statement(self, name: str, month: Month = NOVEMBER) -> list[str]:
        """The lines of a statement."""
        return (self.folder / str(month) / f"{name}.csv").read_text().splitlines()


DUES = ["ledger.command.charge", "ledger.command.interest"]
END = ["billing.month-closed", "billing.close-month"]


async def test_a_month_is_closed_once(database: str, tmp_path: Path) -> None:
    """A second close publishes nothing, and leaves the same statements."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path)
        await service.begin()
        await service.record(posted(1, "7300.00"), posted(2, "1.00", account=577))
        assert await service.close() == [*DUES, DUES[0], *END]
        written = {each.name: each.read_bytes() for each in tmp_path.rglob("*.csv")}
        assert set(written) == {"576-CZK.csv", "577-CZK.csv"}
        (tmp_path / "2026-11" / "576-CZK.csv").unlink()
        assert await service.close() == []
        assert {each.name: each.read_bytes() for each in tmp_path.rglob("*.csv")} == written


async def test_what_a_close_publishes_has_permanent_keys(database: str, tmp_path: Path) -> None:
    """Fee, interest and the next close are named by month, account and currency."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path)
        await service.begin()
        await service.record(posted(1, "7300.00"))
        await service.close()
        of_account = {"account_id": 576, "currency": "CZK"}
        assert [json.loads(message.body) for message in service.published] == [
            {
                **of_account,
                "kind": "charge",
                "charge_id": "fee-2026-11-576-CZK",
                "amount": "15.00",
            },
            {
                **of_account,
                "kind": "interest",
                "interest_id": "interest-2026-11-576-CZK",
                "amount": "3.00",
            },
            {"month": "2026-11", "accounts": 1, "statements": str(tmp_path / "2026-11")},
            {"month": "2026-12"},
        ]
        ids = [message.properties.message_id for message in service.published]
        assert ids == [
            "fee-2026-11-576-CZK",
            "interest-2026-11-576-CZK",
            "month-closed-2026-11",
            "close-2026-12",
        ]


async def test_the_next_close_is_due_when_its_month_is_over(database: str, tmp_path: Path) -> None:
    """The close of November plans December's for the first of January."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path)
        await service.begin()
        await service.close()
        assert service.published[-1].due == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


async def test_what_comes_after_the_close_is_on_the_next_statement(
    database: str, tmp_path: Path
) -> None:
    """A late posting of November is December's, and one of December waits for its own close."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path, HandClock(NOVEMBER.next.end))
        await service.begin()
        last = NOVEMBER.end - dt.timedelta(microseconds=1)
        await service.record(posted(1, "1.00", at=last), posted(2, "2.00", at=NOVEMBER.end))
        await service.close()
        november = service.statement("576-CZK")
        await service.record(posted(3, "4.00", at=NOVEMBER.start))
        assert await service.close() == []
        assert service.statement("576-CZK") == november
        assert [line.split(",")[1] for line in november] == [
            "business_key",
            "",
            "deposit-1",
            "",
            "",
            "",
        ]
        assert november[2].split(",") == [last.isoformat(), "deposit-1", "deposit", "1.00", "1.00"]
        await service.close(NOVEMBER.next)
        december = service.statement("576-CZK", NOVEMBER.next)
        assert [line.split(",")[1:] for line in december[1:5]] == [
            ["", "opening", "", "1.00"],
            ["deposit-3", "deposit", "4.00", "5.00"],
            ["deposit-2", "deposit", "2.00", "7.00"],
            ["", "closing", "", "7.00"],
        ]


async def test_an_account_without_postings_has_a_fee_and_a_statement(
    database: str, tmp_path: Path
) -> None:
    """Once known it is billed each month, and its balance earns interest."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path, HandClock(NOVEMBER.next.end))
        await service.begin()
        await service.record(posted(1, "7300.00"))
        await service.close()
        assert await service.close(NOVEMBER.next) == [*DUES, *END]
        assert service.statement("576-CZK", NOVEMBER.next)[1:] == [
            "2026-12-01T00:00:00+00:00,,opening,,7300.00",
            "2027-01-01T00:00:00+00:00,,closing,,7300.00",
            ",,fee due,-15.00,",
            ",,interest due,3.10,",
        ]


async def test_a_posting_that_comes_twice_is_billed_once(database: str, tmp_path: Path) -> None:
    """The same key with the same content does nothing, before the close and after it."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path, HandClock(NOVEMBER.next.end))
        await service.begin()
        await service.record(posted(1), posted(1))
        await service.close()
        await service.record(posted(1))
        await service.close(NOVEMBER.next)
        assert "closing,,10.00" in "".join(service.statement("576-CZK"))
        assert len(service.statement("576-CZK", NOVEMBER.next)) == 5


@pytest.mark.parametrize(
    "other",
    [
        posted(1, "11.00"),
        posted(1, account=577),
        posted(1, at=OVER),
        posted(1).model_copy(update={"kind": "interest"}),
    ],
)
async def test_another_content_under_a_key_is_rejected(
    database: str, tmp_path: Path, other: Posted
) -> None:
    """It is refused with its key, and the first one stands."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path)
        await service.begin()
        await service.record(posted(1))
        with pytest.raises(Reject, match=r"^deposit-1 was posted before, with another content$"):
            await service.record(other)
        await service.close()
        assert "closing,,10.00" in "".join(service.statement("576-CZK"))


async def test_a_posting_without_its_customer_is_rejected(database: str, tmp_path: Path) -> None:
    """One whose sides are another account's says nothing of its own."""
    async with opened(database, records.metadata) as store:
        strange = posted(1).model_copy(update={"account_id": 577})
        with pytest.raises(Reject, match=r"^deposit-1 has no posting to customer:577$"):
            await Billing(store, tmp_path).record(strange)


@pytest.mark.parametrize(
    ("month", "reason"),
    [
        ("2026-10", "2026-10 cannot be closed: the next month to be closed is 2026-11"),
        ("2027-01", "2027-01 cannot be closed: the next month to be closed is 2026-11"),
        ("9999-12", "9999-12 cannot be closed: the next month to be closed is 2026-11"),
        ("2026-11", "2026-11 cannot be closed: it has not begun"),
    ],
)
async def test_a_month_out_of_turn_is_rejected(
    database: str, tmp_path: Path, month: str, reason: str
) -> None:
    """Months are closed one after the other, and not before they begin; nothing is written."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path, HandClock(NOVEMBER.start - dt.timedelta(seconds=1)))
        await service.begin()
        await service.record(posted(1))
        with pytest.raises(Reject) as rejected:
            await service.close(Month.parse(month))
        assert str(rejected.value) == reason
        assert list(tmp_path.rglob("*.csv")) == []
        service.clock.time = NOVEMBER.start
        assert await service.close() == [DUES[0], *END]


async def test_a_close_that_cannot_write_closes_nothing(database: str, tmp_path: Path) -> None:
    """Where the folder is a file, the month stays open; a retry closes it."""
    async with opened(database, records.metadata) as store:
        service = Billing(store, tmp_path)
        await service.begin()
        await service.record(posted(1))
        (tmp_path / "2026-11").touch()
        with pytest.raises(FileExistsError):
            await service.close()
        (tmp_path / "2026-11").unlink()
        assert await service.close() == [DUES[0], *END]


async def test_two_closes_at_the_same_time_are_one(
    postgres: PostgresServer, name: str, tmp_path: Path
) -> None:
    """The second one waits for the first one's commit, and finds the month closed."""
    url = postgres.create_database(name)
    try:
        async with opened(url, records.metadata) as store:
            service = Billing(store, tmp_path)
            await service.begin()
            await service.record(*(posted(n, account=n) for n in range(20)))
            closes = await asyncio.gather(*(service.close() for _ in range(4)))
            assert sorted(map(len, closes)) == [0, 0, 0, 20 + len(END)]
    finally:
        postgres.drop_database(name)


async def test_each_start_plans_the_close_of_the_open_month(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first month is that of the first start; a later start plans the same, as one message."""
    async with opened(database, records.metadata) as store:
        monkeypatch.setattr(billing, "store", store)
        service = Billing(store, tmp_path)
        for now in (NOVEMBER.start, OVER):
            assert await billing.open_month(MetaData(), HandClock(now)) == NOVEMBER
        await service.close()
        assert await billing.open_month(MetaData(), HandClock(OVER)) == NOVEMBER.next
        ids = [message.message_id for message in await store.unpublished()]
        assert sorted(ids)[:4] == ["close-2026-11"] * 2 + ["close-2026-12"] * 2


POSTINGS = st.lists(
    st.tuples(
        st.sampled_from([576, 577]),
        st.sampled_from(list(Currency)),
        st.decimals("-5000.00", "5000.00", places=2),
        st.integers(-50, 100),  # the day, from the first of November
        st.integers(0, 2),  # how many months are closed when it comes
    ),
    max_size=15,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(postings=POSTINGS)
async def test_each_posting_stands_on_one_statement(
    database: str, tmp_path: Path, postings: Sequence[tuple[int, Currency, Decimal, int, int]]
) -> None:
    """Whenever it comes; each opening is the closing before, and fees add up to the last digit."""
    async with emptied(database, records.metadata) as store:
        service = Billing(store, tmp_path, HandClock(dt.datetime(2028, 1, 1, tzinfo=dt.UTC)))
        await service.begin()
        known: set[tuple[int, Currency]] = set()
        fees, month = Decimal(0), NOVEMBER
        found: list[str] = []
        closings: dict[tuple[int, Currency], Decimal] = {}
        for closed in range(5):
            for number, (account, currency, amount, day, when) in enumerate(postings):
                if when == closed:
                    at = NOVEMBER.start + dt.timedelta(days=day)
                    await service.record(posted(number, str(amount), account, at, currency))
            await service.close(month)
            async with store.transaction() as transaction:
                statements = await records.find_statements(transaction.connection, month)
            for each in statements:
                key = (each.account_id, Currency(each.currency))
                known.add(key)
                assert each.opening == closings.get(key, Decimal(0))
                assert all(line.posted_at < month.end for line in each.lines)
                closings[key] = each.closing
                found += [line.business_key for line in each.lines]
            assert {(each.account_id, each.currency) for each in statements} == known
            fees += sum(FEES[currency] for _, currency in known)
            month = month.next
        assert sorted(found) == sorted(f"deposit-{number}" for number in range(len(postings)))
        assert sum(closings.values()) == sum(amount for _, _, amount, _, _ in postings)
        assert fees == sum(charged(service.published))


def charged(messages: Sequence[Message]) -> Iterator[Decimal]:
    """The amounts of all fees."""
    for message in messages:
        if message.routing_key == "ledger.command.charge":
            yield Charge.model_validate_json(message.body).amount
