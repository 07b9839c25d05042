"""Reads dead letters for pages, and replays, archives and restores them in the background."""
