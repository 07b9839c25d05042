"""What a service declares, checked when it is declared. No I/O."""
