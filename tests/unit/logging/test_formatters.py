"""Lines for a person, and JSON for what collects logs."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqkit.logging import JsonFormatter, TextFormatter


def record(message: str, *, name: str = "shop", error: Any = None, **extra: Any) -> Any:
    made = logging.LogRecord(name, logging.ERROR, __file__, 1, message, (), None)
    made.created = 1_800_000_000.25
    made.__dict__.update(extra)
    if error is not None:
        try:
            raise error  # noqa: TRY301 - for its traceback
        except BaseException:  # noqa: BLE001 - as an application logs whatever it caught
            made.exc_info = sys.exc_info()
    return made


def as_json(made: logging.LogRecord, **options: Any) -> dict[str, Any]:
    line = JsonFormatter(**options).format(made)
    assert line.isprintable()
    return json.loads(line)  # type: ignore[no-any-return]


def test_a_record_is_one_line_and_its_traceback_is_indented() -> None:
    """Nothing that a record or an error quotes begins a line, or reaches the terminal."""
    forged = "2026-01-01 00:00:00,000 CRITICAL forged\x1b[2J"
    made = record(f"y\n{forged}", error=RuntimeError(f"x\n{forged}"))
    first, *others = TextFormatter("%(levelname)s %(message)s").format(made).split("\n")
    assert first == f"ERROR y\\n{forged}".replace("\x1b", "\\x1b")
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert any("forged" in line for line in others)


@pytest.mark.parametrize(
    "formatter", [TextFormatter(masks=["iban"]), JsonFormatter(masks=["iban"])]
)
def test_secrets_of_an_applications_records_are_masked(formatter: logging.Formatter) -> None:
    """In the message, in the error, in its traceback; and in a stack."""
    made = record("password=p4ss iban=DE1", error=ValueError("token=t0k"), stack_info="pin=9999")
    text = formatter.format(made)
    for secret in ("p4ss", "DE1", "t0k", "9999"):
        assert secret not in text
    assert "ValueError" in text


def test_a_record_of_mqkits_is_masked_already_and_an_id_in_it_stays() -> None:
    """Even one that might be a card number; what it shows below its line is indented."""
    made = record("message 4111111111111111", name="mqkit.x", exc_text="Traceback\nb")
    assert TextFormatter("%(message)s").format(made) == (
        "message 4111111111111111\n  Traceback\n  b"
    )
    assert as_json(made)["message"] == "message 4111111111111111"
    assert as_json(made)["traceback"] == "Traceback\nb"


def test_a_handlers_own_line_says_which_message() -> None:
    """Or which batch."""
    fields: dict[str, Any] = {"handler": "shop.post", "message_id": "m\n", "attempt": 2}
    line = TextFormatter("%(message)s").format(record("x", **fields))
    assert line == "x [shop.post: message m\\n, attempt 2]"
    line = TextFormatter("%(message)s").format(record("x", handler="shop.post", batch_size=3))
    assert line == "x [shop.post: a batch of 3 messages]"


def test_the_level_has_a_colour_where_it_is_wanted() -> None:
    """And nothing else of the line has."""
    assert TextFormatter("%(levelname)s %(message)s", colours=True).format(record("ERROR")) == (
        "\x1b[31mERROR\x1b[0m ERROR"
    )


def test_json_has_the_fields_the_extra_and_the_error() -> None:
    """What there is not is left out."""
    made = record(
        "x", message_id="m", queue=None, order={"id": 7, "password": "p"}, error=KeyError("a")
    )
    found = as_json(made)
    traceback = found.pop("traceback")
    assert found.pop("error")["type"] == "KeyError"
    assert traceback.endswith("KeyError: 'a'")
    assert found == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "ERROR",
        "logger": "shop",
        "message": "x",
        "message_id": "m",
        "order": {"id": 7, "password": "***"},
    }


def test_json_names_the_process_of_several() -> None:
    """By the name that `mqkit run --processes` gives it."""
    assert as_json(record("x", processName="ledger.2"))["process"] == "ledger.2"


class Hostile:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.binary() | st.just(Hostile()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    st.text(max_size=20),
)
@settings(max_examples=50)
def test_json_takes_whatever_an_application_logs(value: Any, text: str) -> None:
    """It is one line of strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = JsonFormatter().format(record(text, given=value))
    assert line.isprintable()
    json.loads(line, parse_constant=refuse)
