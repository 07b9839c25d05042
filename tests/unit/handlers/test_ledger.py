"""The ledger service, its handler called directly."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from handlers.accounting.store import open_ledger
from handlers.ledger import post
from mqkit import Reject
from tests.unit.handlers.entries import entry


async def test_another_content_under_a_posted_id_is_rejected_with_its_line(tmp_path: Path) -> None:
    """The handler dead-letters it; the reason begins with the line, and nothing changes."""
    async with open_ledger(tmp_path / "l") as ledger:
        await post(entry(1, "1.00"), ledger)
        with pytest.raises(Reject, match=r"^line 5: transaction 1 is posted already"):
            await post(entry(1, "2.00", source_line=5), ledger)
        assert await ledger.balance(7) == Decimal("1.00")
