"""Hands out the names of a package, each imported when it is first asked for.

pytest imports the plugin in every project, and a test that needs no broker pays for none.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's `__getattr__` (PEP 562), which imports a name when it is asked for.

    :param package: the package's `__name__`
    :param homes: names, and the module of the package that each is in
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
