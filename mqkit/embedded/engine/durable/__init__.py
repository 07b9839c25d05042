"""Keeps durable queues, exchanges, bindings and messages beyond the broker's process."""
