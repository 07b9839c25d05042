"""What a caller is told whose arguments do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import ConfigurationError
from mqkit.checks.calls import names_its_options


@names_its_options("paint", example="paint(wall, colour=...)")
def paint(wall: str, /, *, colour: str, coats: int = 1) -> str:
    return f"{wall} {colour} {coats}"


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        (["w"], {"color": "red"}, "paint: there is no option 'color'; did you mean colour?"),
        (["w"], {"x": 1, "colour": 2}, "paint: there is no option 'x'; there are colour, coats"),
        ([], {"colour": "red"}, "write paint(wall, colour=...)"),
        (["w", "red"], {}, "too many positional arguments; write paint(wall, colour=...)"),
    ],
)
def test_a_call_that_does_not_fit_is_told_what_would(
    arguments: list[Any], options: dict[str, Any], told: str
) -> None:
    """The option that was probably meant, or how the function is called."""
    with pytest.raises(ConfigurationError) as caught:
        paint(*arguments, **options)
    assert str(caught.value).endswith(told)
    assert str(caught.value).startswith("paint: ")


def test_a_type_error_of_the_function_itself_is_its_own() -> None:
    """Only arguments are explained, and not what goes wrong with them."""

    @names_its_options("fail")
    def fail(body: int) -> None:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        fail(1)
