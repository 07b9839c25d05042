"""What the README shows works."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mqkit import Delivery, Reject, Service
from mqkit.message import Header
from mqkit.outcome import DeathReason
from mqkit.testing.harness import harness

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


EXAMPLE, TESTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(source: str, **names: Any) -> dict[str, Any]:
    """Run an example, and return what it defines."""
    names["__name__"] = "shop.ledger"
    exec(compile(source, "README.md", "exec", dont_inherit=True), names)  # noqa: S102
    return names


class Published:
    """In the place of a publisher."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def publish(self, *_: object, message_id: str) -> str:
        self.ids.append(message_id)
        return message_id


async def test_the_example_registers_and_is_called_directly() -> None:
    """The README's service registers, and its handler runs as a plain function."""
    names = run(EXAMPLE)
    service, publisher = names["service"], Published()
    assert isinstance(service, Service)
    assert [handler.queue.name for handler in service.handlers] == ["ledger.post"]
    order = names["PaymentOrder"](id="1", amount=Decimal("9.90"))
    await names["post"](order, Delivery(), publisher)
    assert publisher.ids == ["posted-1"]
    with pytest.raises(Reject):
        await names["post"](order.model_copy(update={"amount": Decimal(0)}), Delivery(), publisher)


def test_every_reason_and_header_of_a_dead_letter_is_documented() -> None:
    """The table of the dead letters' headers leaves out none, and no reason."""
    for reason in DeathReason:
        assert f"`{reason.value}`" in README
    internal = {Header.PUBLISH, Header.ATTEMPT, Header.UNREADABLE}
    for name, header in vars(Header).items():
        if not name.startswith("_") and header not in internal:
            assert header in README or f"`-{header.rpartition('-')[2]}`" in README


@pytest.mark.parametrize("test", re.findall(r"async def (test_\w+)", TESTS))
async def test_the_tests_of_the_example_pass(test: str) -> None:
    """The README's tests of its own service pass as they are, on the embedded broker."""
    example = run(EXAMPLE)
    tests = run(TESTS, service=example["service"], payments=example["payments"])
    await tests[test](harness)
