"""Checks of options and names as they are given."""
