"""From what was typed to a service and a broker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mqkit import BrokerUrlError
from mqkit.cli.options import broker_url, load_service
from mqkit.errors import ServiceNotFoundError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a module that has a service."""
    (tmp_path / "shop_for_test.py").write_text(
        "from mqkit import Service\nservice = Service('shop')\nother = 5\n"
    )
    (tmp_path / "broken_for_test.py").write_text("import not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_service_is_found_in_the_current_folder() -> None:
    """MODULE:SERVICE imports from where the command runs."""
    assert load_service("shop_for_test:service").name == "shop"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shop_for_test", "is not MODULE:SERVICE"),
        (":service", "is not MODULE:SERVICE"),
        (".shop:service", "is not MODULE:SERVICE"),
        ("shoop_for_test:service", "there is no module 'shoop_for_test'"),
        ("shop_for_test:servise", "did you mean shop_for_test:service?"),
        ("shop_for_test:other", "is int, not a Service; did you mean shop_for_test:service?"),
        ("json:service", "no Service at all"),
    ],
)
def test_a_typo_is_explained(spec: str, words: str) -> None:
    """What is no service is refused, with what was probably meant."""
    with pytest.raises(ServiceNotFoundError) as caught:
        load_service(spec)
    assert words in str(caught.value)


def test_a_modules_own_import_error_is_its_own() -> None:
    """A module that exists but imports what does not is not reported as missing."""
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        load_service("broken_for_test:service")


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """--url wins over MQKIT_URL, and without either the error names both."""
    monkeypatch.delenv("MQKIT_URL", raising=False)
    with pytest.raises(BrokerUrlError, match=r"--url .* MQKIT_URL"):
        broker_url(None)
    monkeypatch.setenv("MQKIT_URL", "amqp://from-environment")
    assert broker_url(None).hosts[0].name == "from-environment"
    assert broker_url("amqp://from-option").hosts[0].name == "from-option"
