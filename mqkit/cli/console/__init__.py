"""`mqkit console`: serves the web console."""
