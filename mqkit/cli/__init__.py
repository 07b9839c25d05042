"""The `mqkit` command."""

from mqkit.cli.app import main

__all__ = ["main"]
