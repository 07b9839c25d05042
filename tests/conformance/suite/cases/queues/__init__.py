"""Queues: declaring them, and what they do with the messages in them."""
