"""Ends a running service in order, and watches it: drains, closes, reports stalls."""
