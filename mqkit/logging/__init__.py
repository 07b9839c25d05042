"""How errors and foreign text are shown in a log, and in an error."""
