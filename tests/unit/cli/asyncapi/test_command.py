"""`mqkit asyncapi` and `mqkit asyncapi diff`: what they write, and their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.errors import ConfigurationError

SHOP = """
from pydantic import BaseModel
from mqkit import Exchange, Queue, Retry, Service

orders = Exchange("shop.orders")
service = Service("shop", retry=Retry.never(), publishes=[orders.carries("order.placed", int)])
other = Service("other", retry=Retry.never())


class Order(BaseModel):
    id: str
    note: str = ""


@service.handler(Queue("shop.orders"), bind=orders.key("order.place"))
async def take(order: Order) -> None:
    ...
"""

SERVICE = "asyncapi_shop:service"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a service, which the command runs in; its module is imported anew."""
    file = tmp_path / "asyncapi_shop.py"
    file.write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "asyncapi_shop", raising=False)
    return file


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["asyncapi", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def changed(shop: Path, old: str, new: str) -> None:
    """Change the service, as if it were the next version."""
    shop.write_text(shop.read_text().replace(old, new))
    sys.modules.pop("asyncapi_shop", None)
    for cached in shop.parent.glob("__pycache__/*"):
        cached.unlink()


def test_services_are_described_in_one_document(shop: Path) -> None:
    """Printed as JSON, with a title and a version, by either form of the command."""
    given = (SERVICE, "asyncapi_shop:other", "--title", "Shop", "--api-version", "2.0.0")
    found = json.loads(run(*given))
    assert found["info"] == {"title": "Shop", "version": "2.0.0"}
    assert list(found["operations"]) == [
        "shop.receive.shop.orders",
        "shop.send.shop.orders.order.placed",
    ]
    assert json.loads(run("describe", *given)) == found


def test_a_document_and_a_page_are_written(shop: Path) -> None:
    """Nothing is printed then, and the broker's password is in neither of them."""
    url = "amqp://guest:planted-secret@localhost/shop"
    printed = run(SERVICE, "--out", "shop.json", "--html", "shop.html", "--url", url)
    assert printed == ""
    document, page = Path("shop.json").read_text(), Path("shop.html").read_text()
    assert json.loads(document)["servers"]["broker"]["host"] == "localhost:5672"
    assert page.startswith("<!doctype html>")
    assert "planted-secret" not in document + page


def test_breaking_changes_are_exit_code_1(shop: Path) -> None:
    """Each change is a line, those that break first; with --json one object."""
    run(SERVICE, "--out", "old.json")
    assert run("diff", "old.json", SERVICE) == "nothing changed\n"
    changed(shop, 'note: str = ""', "note: str\n    more: int = 0")
    lines = run("diff", "old.json", SERVICE, code=1).splitlines()
    assert lines == [
        "breaking: receive queue shop.orders, Order.note: is required now",
        "other: receive queue shop.orders, Order.more: is new, and may be left out",
    ]
    found = json.loads(run("diff", "old.json", SERVICE, "--json", code=1))
    assert found["breaking"] == 1
    assert found["changes"][0] == {
        "where": "receive queue shop.orders, Order.note",
        "what": "is required now",
        "breaking": True,
    }


def test_what_breaks_nobody_is_exit_code_0(shop: Path) -> None:
    """It is told all the same."""
    run(SERVICE, "--out", "old.json")
    changed(shop, 'note: str = ""', 'note: str = ""\n    more: int = 0')
    assert run("diff", "old.json", SERVICE).startswith("other: receive queue shop.orders, ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["diff", "nowhere.json", SERVICE], "nowhere.json cannot be read: No such file"),
        (["diff", ".", SERVICE], ". cannot be read: Is a directory"),
        (["diff", "asyncapi_shop.py", SERVICE], "asyncapi_shop.py is not JSON"),
        (["asyncapi_shop:servise"], "did you mean asyncapi_shop:service?"),
        ([SERVICE, "--out", "no/where.json"], "no/where.json cannot be written"),
        ([SERVICE, "--url", "http://x"], "amqp"),
    ],
)
def test_called_wrongly_is_named(shop: Path, arguments: list[str], problem: str) -> None:
    """A file, a service or a URL that is none is named, and how it may have been meant."""
    error = CliRunner().invoke(app, ["asyncapi", *arguments]).exception
    assert isinstance(error, ConfigurationError)
    assert problem in str(error)
