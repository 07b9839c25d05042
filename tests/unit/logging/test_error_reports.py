"""What the log is told of an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from mqkit.errors import DecodeError
from mqkit.logging.error_reports import ErrorReports, log_error, log_problem
from mqkit.logging.error_texts import masked_line, masked_traceback
from mqkit.logging.masking import Masker

HERE = Path(__file__)


def raised(fail: Callable[[], object]) -> BaseException:
    """What a function raises, with its traceback."""
    try:
        fail()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError


def with_cause() -> None:
    try:
        int("card 4111111111111111")
    except ValueError as error:
        raise LookupError("no\nrate, password=hunter2") from error


def implied() -> None:
    try:
        {}["a"]  # type: ignore[index]
    except KeyError:
        raise LookupError("b")  # noqa: B904


def suppressed() -> None:
    try:
        implied()
    except LookupError:
        raise LookupError("c") from None


def group() -> None:
    errors = [raised(with_cause), TypeError("t")]
    raise BaseExceptionGroup("two of them", errors)


def test_it_is_the_text_the_cause_and_the_place_on_one_line() -> None:
    """Without secrets; the place is where the error itself was raised."""
    report = ErrorReports().of(raised(with_cause))
    line = with_cause.__code__.co_firstlineno + 4
    here = str(HERE).removeprefix(f"{Path.cwd()}/")
    assert report.where == f"{here}:{line} in with_cause"
    assert report.cause == ("ValueError: invalid literal for int() with base 10: 'card ***'")
    assert str(report) == (
        f"LookupError: no rate, password=***, caused by {report.cause}, at {report.where}"
    )


@pytest.mark.parametrize(("fail", "cause"), [(implied, "KeyError: 'a'"), (suppressed, None)])
def test_a_cause_is_what_a_traceback_shows(fail: Callable[[], object], cause: str | None) -> None:
    """Also an error that was being handled, unless that is suppressed."""
    assert ErrorReports().of(raised(fail)).cause == cause


def test_types_alone_quote_nothing_but_what_was_written_for_the_log() -> None:
    """Neither does their traceback."""
    reports = ErrorReports("type")
    error = raised(with_cause)
    report = reports.of(error)
    assert str(report).startswith("LookupError, caused by ValueError, at ")
    traceback = reports.traceback(error)
    assert "in with_cause" in traceback
    assert "\nValueError\n" in traceback
    assert traceback.endswith("\nLookupError\n")
    assert reports.of(error, keeps_text=True).text == "no rate, password=***"


def test_errors_of_a_group_are_named() -> None:
    """The group's own text says nothing of them."""
    report = ErrorReports().of(raised(group))
    assert report.text is not None
    assert "two of them (2 sub-exceptions): LookupError: no rate" in report.text
    assert "; TypeError: t" in report.text


class Hostile(Exception):  # noqa: N818 - as applications name them
    """An error that shows nothing of itself."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


class Huge(Exception):  # noqa: N818 - as above
    """An error with a text of megabytes."""

    def __str__(self) -> str:
        return "x" * 10_000_000


def test_a_hostile_error_is_reported_all_the_same() -> None:
    """Its text may raise anything, or be without end."""
    assert ErrorReports().of(Hostile()).text == "<str() failed>"
    assert len(masked_line(Huge())) < 600
    assert len(masked_traceback(Huge())) < 25_000


def test_a_chain_of_causes_that_is_a_circle_has_an_end() -> None:
    """An application can make one."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert ErrorReports().of(first).cause == "ValueError: second"


def test_an_unexpected_error_is_logged_with_a_masked_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The record has no error that a formatter could show unmasked; its place is the caller's."""
    log_error(logging.getLogger("x"), logging.ERROR, "%s failed", "it", error=raised(with_cause))
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.exc_text is not None
    assert "password=***" in record.exc_text
    assert "hunter2" not in record.exc_text + record.getMessage()
    assert record.getMessage().startswith("it failed: LookupError: no rate")
    assert (record.filename, record.funcName) == (
        HERE.name,
        "test_an_unexpected_error_is_logged_with_a_masked_traceback",
    )
    assert record.__dict__["error"]["type"] == "LookupError"


def test_an_error_of_mqkits_needs_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Its text says all there is to say; any other's does not."""
    logger = logging.getLogger("x")
    log_problem(logger, logging.ERROR, "it failed", error=DecodeError("token=abc"))
    log_problem(logger, logging.ERROR, "it failed", error=raised(implied))
    first, second = caplog.records
    assert (first.getMessage(), first.exc_text) == ("it failed: token=***", None)
    assert second.exc_text is not None
    assert first.filename == HERE.name


def test_a_services_masks_hold_for_all_parts_of_an_error() -> None:
    """Text, cause and traceback."""
    reports = ErrorReports(masker=Masker(["literal"]))
    error = raised(lambda: int("literal=tell-nobody"))
    assert "tell-nobody" not in str(reports.of(error)) + reports.traceback(error)
