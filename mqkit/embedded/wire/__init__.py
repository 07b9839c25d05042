"""Bytes to frames, tables and content headers, and back."""
