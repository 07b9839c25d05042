"""The table of handlers/README.md says of each service what its source says."""

from __future__ import annotations

from pathlib import Path

from tests.docs.services_table import FEATURES, PAGE, Source, section, services, table, used


def test_the_readme_has_each_services_lines_and_features() -> None:
    """The page's table is what `python -m tests.docs.services_table` makes of the sources"""
    assert section(PAGE.read_text()) == table()


def test_a_service_is_a_screen_or_two() -> None:
    """No service is longer than 300 lines, with its docstrings and imports"""
    assert {each.name: each.lines for each in services() if each.lines > 300} == {}


def test_every_feature_is_used() -> None:
    """Who looks for an example of a feature finds one in a service"""
    found = {feature for source in services() for feature in used(source)}
    assert set(FEATURES) - found == set()


def test_what_a_source_uses_is_seen(tmp_path: Path) -> None:
    """An import alone is no use, and neither is a method of another thing"""
    path = tmp_path / "shop.py"
    path.write_text(
        "from mqkit import Pause, Reject, Service\n"
        "service = Service('shop')\n"
        "@service.handler(Q, order_by='id')\n"
        "def ask(order: Order) -> int:\n"
        "    raise Reject('no')\n"
        "@service.batch(Q)\n"
        "async def many(orders: list[Order]) -> None:\n"
        "    other.publish(at=1)\n"
    )
    source = Source(path)
    assert source.is_service
    assert used(source) == [
        "`def` handler",
        "batch",
        "publish later",
        "reply",
        "`order_by`",
        "`Reject`",
    ]
