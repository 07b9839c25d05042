"""Runs a store on SQLite: its dialect, and its connections, each in a thread of its own."""
