"""Where in the application's own code an error was raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from tenacity import stop_after_attempt

from mqkit.codec import encode
from mqkit.logging.places import place_of

CODE = "def fail():\n    raise ValueError\n"


def code_of(file: str, module: str) -> Callable[[], Any]:
    """A function that raises, as if it stood in that file."""
    names: dict[str, Any] = {"__name__": module}
    exec(compile(CODE, file, "exec"), names)  # noqa: S102 - a file that there is not
    return names["fail"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("call", "function"),
    [
        (lambda: json.loads("{"), "<lambda>"),
        (lambda: pydantic.TypeAdapter(int).validate_python("x"), "<lambda>"),
        (lambda: encode(object()), "<lambda>"),
        (lambda: stop_after_attempt(1)(None), "<lambda>"),  # type: ignore[arg-type]
        (code_of("/srv/shop/ledger.py", "shop.ledger"), "/srv/shop/ledger.py:2 in fail"),
        (code_of("/x/site-packages/shop/ledger.py", "shop.ledger"), "ledger.py:2 in fail"),
        (code_of("/x/site-packages/bank/client.py", "bank.client"), "<lambda>"),
    ],
)
def test_it_is_the_innermost_frame_of_the_applications_code(
    call: Callable[[], object], function: str
) -> None:
    """Not Python's, mqkit's or a library's; an installed package is its own if its handler's is."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is
        (lambda: call())()  # noqa: PLC3002, PLW0108 - a frame of this file
    place = place_of(raised.value, "shop")
    assert place is not None
    assert place.endswith(function)


def test_what_was_raised_nowhere_has_no_place() -> None:
    """An error that was made and not raised."""
    assert place_of(ValueError()) is None


def test_a_library_is_named_where_there_is_nothing_else() -> None:
    """As for a handler that is a library's function."""
    with pytest.raises(ValueError, match=r"^$") as raised:
        code_of("/x/site-packages/bank/client.py", "bank.client")()
    error = raised.value
    error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
    assert place_of(error) == "/x/site-packages/bank/client.py:2 in fail"
