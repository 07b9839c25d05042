"""The broker itself: queues, exchanges, messages, time and users; it knows no connection."""
