"""Runs handlers in transactions: one message, a batch, or a group whose messages share a commit."""
