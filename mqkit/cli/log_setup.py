"""Sets up the log of a command: lines or JSON on stderr, or what a file says.

Reads the file of `--log-config`: a dictionary in JSON or TOML (`logging.config.dictConfig`), or an
INI file (`logging.config.fileConfig`).
"""

from __future__ import annotations

import configparser
import contextlib
import json
import logging
import logging.config
import multiprocessing
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from mqkit.cli.exit_codes import CALLED_WRONGLY, FAILED
from mqkit.cli.labels import label_output
from mqkit.errors import ConfigurationError, MqkitError
from mqkit.logging import FieldsFilter, JsonFormatter, TextFormatter
from mqkit.logging.error_reports import ErrorReports
from mqkit.logging.error_texts import causes

logger = logging.getLogger(__name__)

Masks = Iterable[str | re.Pattern[str]]


class LogFormat(StrEnum):
    """How a command writes its log."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Holds what `mqkit run` was told of its log."""

    level: int | None = None
    """None: INFO, or what the file says."""
    format: LogFormat | None = None
    """None: lines of text, unless the service's module has set up logging itself."""
    config: str | None = None
    """The path of `--log-config`."""

    @property
    def has_labels(self) -> bool:
        """Whether each line of several processes begins with whose it is."""
        return self.config is None and self.format is not LogFormat.JSON

    def check(self) -> None:
        """Check that they go together, and that the file can be read.

        :raises ConfigurationError: they do not, or it cannot
        """
        if self.config is None:
            return
        for option, value in (("--log-format", self.format), ("--log-level", self.level)):
            if value is not None:
                raise ConfigurationError(f"{option}: {self.config} says that: give one of them")
        configuration(self.config)

    def start(self, label: str | None = None, masks: Masks = ()) -> None:
        """Log from now on.

        Of several processes, each line of text begins with the label. In JSON, and in what a file
        says, a record has it as its `processName`.

        :param masks: what is masked in records that are not mqkit's, beside what is secret anyway
        :raises ConfigurationError: logging cannot be set up as the file says
        """
        if label is not None:
            multiprocessing.current_process().name = label
        if self.config is not None:
            _apply(self.config, configuration(self.config))
            return
        level = logging.INFO if self.level is None else self.level
        if self.format is LogFormat.JSON:
            formatter: logging.Formatter = JsonFormatter(masks=masks)
        else:
            if label is not None:
                label_output(label)
            formatter = TextFormatter(masks=masks, colours=_has_colours(sys.stderr))
        # At once, so that the lines of processes with the same stderr do not mix.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter)
        handler.addFilter(FieldsFilter())
        logging.basicConfig(level=level, handlers=[handler], force=self.format is not None)

    @contextlib.contextmanager
    def ending(self, reports: ErrorReports) -> Iterator[None]:
        """Log what ends this process, which logs already, and end it with its exit code.

        An error of mqkit's is a plain line on stderr if the log is text.

        :param reports: says of errors what the service wants in its log
        """
        try:
            yield
        except MqkitError as error:
            if self.has_labels:
                raise
            logger.critical("%s", reports.of(error).text)
            is_wrong = isinstance(error, ConfigurationError)
            sys.exit(CALLED_WRONGLY if is_wrong else FAILED)
        except Exception as error:  # noqa: BLE001 - Python would show it unmasked
            reports.log(logger, logging.CRITICAL, "the service failed", error=error)
            sys.exit(FAILED)


def log_to_stderr(level: int) -> None:
    """Log lines of text to stderr from now on."""
    LogOptions(level=level).start()


def configuration(path: str) -> Callable[[], None]:
    """Read a `--log-config`, and return what sets logging up as it says.

    :raises ConfigurationError: it cannot be read, or is neither JSON nor TOML nor INI
    """
    file = Path(path)
    kind = file.suffix.lower()
    try:
        text = file.read_text(encoding="utf-8")
        if kind in (".json", ".toml"):
            found: Any = json.loads(text) if kind == ".json" else tomllib.loads(text)
        else:
            parser = configparser.RawConfigParser()
            parser.read_string(text, path)
            return lambda: logging.config.fileConfig(parser, disable_existing_loggers=False)
    except (OSError, ValueError, configparser.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        what = "INI (.json and .toml name the others)" if kind not in (".json", ".toml") else kind
        raise ConfigurationError(
            f"--log-config {path}: it cannot be read as {what.lstrip('.')}: {reason}"
        ) from error
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"--log-config {path}: it holds a {type(found).__name__}, and must be an object for "
            "logging.config.dictConfig"
        )
    # Else it would switch off all loggers that are there already, mqkit's among them.
    whole = {"disable_existing_loggers": False, **found}
    return lambda: logging.config.dictConfig(whole)


def _apply(path: str, configure: Callable[[], None]) -> None:
    try:
        configure()
    except Exception as error:
        why = ": ".join(str(each) or type(each).__name__ for each in (error, *causes(error)))
        raise ConfigurationError(
            f"--log-config {path}: logging cannot be set up as it says: {why}"
        ) from error


def _has_colours(stream: TextIO) -> bool:
    """Whether a person sees it who has not asked for no colours (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()
