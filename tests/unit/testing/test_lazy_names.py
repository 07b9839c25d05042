from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from mqkit.testing import brokers, harness, proxy

NAMES = {
    brokers: [
        "EMBEDDED",
        "Broker",
        "BrokerControlError",
        "BrokerNotFoundError",
        "BrokerSpec",
        "BrokerStartError",
        "EmbeddedBroker",
        "find_brokers",
        "start",
    ],
    harness: [
        "Attempt",
        "DeadLettered",
        "DeadMessage",
        "Handled",
        "Harness",
        "HarnessError",
        "HarnessTimeoutError",
        "Published",
        "Result",
        "Retried",
        "harness",
    ],
    proxy: ["ACK_FRAME", "HEARTBEAT", "Direction", "ProxyClosedError", "TcpProxy"],
}
"""What applications import from the packages of mqkit.testing; a name that goes breaks them."""


@pytest.mark.parametrize("package", NAMES, ids=lambda package: package.__name__)
def test_every_documented_name_is_handed_out(package: ModuleType) -> None:
    """Each name of a package is there, and is the one of the module that it comes from."""
    assert sorted(package.__all__) == sorted(NAMES[package])
    for name in NAMES[package]:
        value = getattr(package, name)
        home = getattr(value, "__module__", None)
        if isinstance(home, str) and home.startswith(package.__name__):
            assert value is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("package", NAMES, ids=lambda package: package.__name__)
def test_a_name_that_is_not_there_is_an_error(package: ModuleType) -> None:
    """As with any module, it is an AttributeError that names both."""
    with pytest.raises(AttributeError, match=rf"{package.__name__}.*no attribute 'Nothing'"):
        _ = package.Nothing


def test_a_package_imports_nothing_before_it_is_asked() -> None:
    """Importing the packages loads none of their modules."""
    code = (
        "import sys; from mqkit.testing import brokers, harness, proxy; "
        "print(*sorted(name for name in sys.modules if name.startswith('mqkit')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().split() == [
        "mqkit",
        "mqkit.testing",
        "mqkit.testing.brokers",
        "mqkit.testing.harness",
        "mqkit.testing.lazy_names",
        "mqkit.testing.proxy",
    ]
