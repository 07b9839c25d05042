"""Connections and channels: the handshake, errors, the bytes on the wire."""
