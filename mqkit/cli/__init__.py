"""The `mqkit` command, which `pip install 'mqkit[cli]'` brings the libraries for."""

import sys

from mqkit.checks.extras import needs_extra
from mqkit.cli.exit_codes import CALLED_WRONGLY
from mqkit.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process, or say what to install where it cannot be run."""
    try:
        with needs_extra("cli", "the command line", "click", "rich", "typer"):
            from mqkit.cli.app import main as run  # noqa: PLC0415 - what it needs is an extra
    except MissingExtraError as error:
        sys.stderr.write(f"mqkit: {error}\n")
        sys.exit(CALLED_WRONGLY)
    run()
