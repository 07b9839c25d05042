"""The broker itself: queues, exchanges, messages, time and users, without a socket."""
