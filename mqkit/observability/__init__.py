"""Metrics and traces of a running service."""
