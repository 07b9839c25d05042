"""The errors of a harness, which tell a test's author what it waited for, or cannot do."""

from __future__ import annotations

from mqkit.errors import MqkitError


class HarnessError(MqkitError):
    """A test asked the harness for something that it cannot do; the message says why."""

    has_lines = True


class HarnessTimeoutError(HarnessError):
    """What a test waited for did not come; the message says how far it came."""
