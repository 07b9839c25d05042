"""Placeholder."""

ROUTES = ()
