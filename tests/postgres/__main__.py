"""`python -m tests.postgres`: say which PostgreSQL the tests would run on.

Exit codes: 0 there is one; 1 there is none; 2 a variable that steers the search is malformed.
"""

from __future__ import annotations

import os
import sys

from mqkit.errors import ConfigurationError
from tests.postgres import PostgresNotFoundError, find_postgres


def main() -> int:
    """Find a server; the exit code says whether there is one."""
    try:
        sys.stderr.write(f"PostgreSQL for tests: {find_postgres(os.environ)}\n")
    except ConfigurationError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    except PostgresNotFoundError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
