"""How fast a replay goes, and when it stops."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.dead_letters.replaying import Pace
from mqkit.errors import OptionError


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"rate": "fast"},
        {"stop_at": 0},
        {"stop_at": 1.1},
        {"stop_at": float("nan")},
        {"stop_at": True},
        {"stop_at": "half"},
        {"at_least": 0},
        {"at_least": 1.5},
        {"watch": -1},
        {"watch": float("inf")},
    ],
)
def test_a_pace_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    """An option that would never stop, or never begin, is an error."""
    with pytest.raises(OptionError):
        Pace(**wrong)
