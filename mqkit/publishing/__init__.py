"""Publishes messages, waits for the broker's confirm, and sends again what was lost."""
