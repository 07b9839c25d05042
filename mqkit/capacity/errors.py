"""Errors of capacity planning."""

from __future__ import annotations

from mqkit.errors import MqkitError


class CapacityError(MqkitError):
    """What was measured of a service cannot be read, or says nothing about a load."""
