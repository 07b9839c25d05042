"""The broker on sockets, on an event loop or in a thread."""
