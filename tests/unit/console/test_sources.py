"""Stores that the console reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from mqkit.console.sources import AGAIN, OpenedStore
from mqkit.errors import ConfigurationError, StoreError
from mqkit.store import Store


def stored(url: str) -> OpenedStore:
    """A store that nobody has asked for yet."""
    return OpenedStore(SecretStr(url))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            "postgresql://ann:planted@db.example:5432/shop?sslmode=require",
            "postgresql: db.example/shop",
        ),
        ("sqlite:////var/lib/shop.sqlite", "sqlite: /var/lib/shop.sqlite"),
        ("sqlite+aiosqlite:///shop.sqlite", "sqlite: shop.sqlite"),
    ],
)
def test_a_store_is_named_without_who_may_enter_it(url: str, name: str) -> None:
    """By its kind, host and database."""
    assert stored(url).name == name


def test_a_url_of_no_store_is_refused_at_once() -> None:
    """And not when a page asks for it first."""
    with pytest.raises(ConfigurationError):
        stored("mysql://ann:planted@db/shop")


async def test_a_store_is_opened_once_and_makes_no_tables(tmp_path: Path) -> None:
    """Reading changes nothing: a database without tables is an error, which a page shows."""
    file = tmp_path / "shop.sqlite"
    empty = stored(f"sqlite:///{file}")
    with pytest.raises(StoreError):
        await empty.store()
    async with Store(f"sqlite:///{file}", relay=False):
        pass
    one = stored(f"sqlite:///{file}")
    assert await one.store() is await one.store()
    assert await (await one.store()).unpublished() == []
    await one.close()
    await one.close()


async def test_a_store_that_is_away_is_tried_again_some_seconds_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page in between says what the last attempt said, and waits for nothing."""
    one = stored(f"sqlite:///{tmp_path / 'none.sqlite'}")
    attempts = 0

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise StoreError("away")

    monkeypatch.setattr(one._store, "open", fail)
    for _ in range(3):
        with pytest.raises(StoreError, match="away"):
            await one.store()
    assert attempts == 1
    one._again_at -= AGAIN
    with pytest.raises(StoreError):
        await one.store()
    assert attempts == 2
