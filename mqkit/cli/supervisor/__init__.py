"""Keeps the processes of `mqkit run --processes` running."""
