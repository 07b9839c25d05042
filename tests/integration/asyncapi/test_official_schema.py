"""The documents are valid by the schema that AsyncAPI publishes; npm installs it for the test."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mqkit import Exchange, Queue, Retry, Service
from mqkit.asyncapi.describing import describe
from mqkit.settings import BrokerUrl
from tests.unit.asyncapi.payments import payment_services

PACKAGES = ("@asyncapi/specs@6.11.1", "ajv@8.20.0", "ajv-formats@3.0.1")
CHECK = Path(__file__).parent / "check.js"


@pytest.fixture(scope="module")
def checker(pytestconfig: pytest.Config) -> Path:
    """A folder with the schema and a validator, installed once and kept with pytest's cache."""
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir("asyncapi-modules"))
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.fail("AsyncAPI's schema is an npm package: install Node.js and npm for this test")
    modules = folder / "node_modules"
    if not (modules / "ajv-formats").is_dir():
        # Elsewhere, and then put there as a whole: other test processes may do the same now.
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            Path(fresh, "package.json").write_text("{}")
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
            done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.fail(f"npm cannot install {' '.join(PACKAGES)}:\n{done.stderr[-2000:]}")
            with contextlib.suppress(OSError):  # another one was there first
                Path(fresh, "node_modules").rename(modules)
        assert (modules / "ajv-formats").is_dir()
    return folder


def errors(checker: Path, *documents: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """What the schema says against each document."""
    # Where node looks for the modules, and in nobody's way: other test processes check theirs.
    with tempfile.TemporaryDirectory(dir=checker) as name:
        folder = Path(name)
        shutil.copy(CHECK, folder)
        files = []
        for number, each in enumerate(documents):
            file = folder / f"{number}.json"
            file.write_text(json.dumps(each))
            files.append(file.name)
        command = ["node", CHECK.name, *files]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.long
def test_documents_are_valid(checker: Path) -> None:
    """That of all payment services, and of a service of odd names and types; a wrong one is not."""
    url = BrokerUrl.parse("amqps://user:secret@one.example,two.example/shop")
    payments = describe(payment_services(), title="Payments", version="1.2.0", url=url)
    odd = Service("ö d/d~", retry=Retry.never(), publishes=[Exchange("x" * 200, type="fanout")])

    @odd.handler(Queue("ö/~ %41#{a}"), bind=[Exchange("h", type="headers").key("", {"a": 1})])
    async def handle(body: dict[str, tuple[int, str] | None]) -> list[bytes]:
        return []

    wrong = json.loads(json.dumps(payments))
    wrong["operations"]["orders.receive.orders.place"]["action"] = "publish"
    ours, theirs, refused = errors(checker, payments, describe([odd]), wrong)
    assert ours == []
    assert theirs == []
    assert refused, "the schema refuses something"
