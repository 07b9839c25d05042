"""Stands in the place of pip: installs nothing, and fails where mqkit has no such extra."""

from __future__ import annotations

import sys
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement


def main(arguments: list[str]) -> int:
    """Check `pip install NAME[EXTRA,...]`; return its exit code."""
    if not arguments or arguments[0] != "install":
        return 0
    known = set(metadata.metadata("mqkit").get_all("Provides-Extra") or ())
    for each in arguments[1:]:
        if each.startswith("-"):
            continue
        try:
            requirement = Requirement(each)
        except InvalidRequirement as error:
            sys.stderr.write(f"{each}: {error}\n")
            return 1
        if requirement.name == "mqkit" and (unknown := requirement.extras - known):
            sys.stderr.write(f"mqkit has no extra {', '.join(sorted(unknown))}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
