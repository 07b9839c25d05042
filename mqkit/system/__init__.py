"""What differs between operating systems: locks of files, and signals."""
