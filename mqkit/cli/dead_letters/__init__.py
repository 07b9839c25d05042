"""`mqkit dead-letters`: lists, shows, replays, edits, archives, restores and drops dead letters."""
