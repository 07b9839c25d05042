"""Decodes bytes to frames, tables and content headers, and encodes them."""
