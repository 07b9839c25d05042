"""A client's connection and its channels, without a socket."""
