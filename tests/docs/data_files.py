"""Parses the blocks that are data."""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Callable

import yaml

from tests.docs.pages import Block, PageError


def _jsonl(text: str) -> None:
    for line in text.splitlines():
        json.loads(line)


def _ini(text: str) -> None:
    configparser.ConfigParser(interpolation=None).read_string(text)


def _yaml(text: str) -> None:
    list(yaml.safe_load_all(text))


PARSERS: dict[str, Callable[[str], object]] = {
    "ini": _ini,
    "json": json.loads,
    "jsonl": _jsonl,
    "toml": tomllib.loads,
    "yaml": _yaml,
}
"""By the language of a block."""


def parse(block: Block) -> None:
    """Parse a block.

    :raises PageError: it is no such data
    """
    try:
        PARSERS[block.language](block.text)
    except (ValueError, configparser.Error, yaml.YAMLError) as error:
        raise PageError(f"{block.where}: no {block.language}: {error}") from error
