"""`mqkit top` and what it is made of, on brokers."""
