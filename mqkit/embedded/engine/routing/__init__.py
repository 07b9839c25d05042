"""Finds the queues that a message goes to: exchanges, bindings and how they match."""
