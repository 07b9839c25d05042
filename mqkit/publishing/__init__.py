"""Publishes a message, and tells what the broker said of it."""
