"""`mqkit dead-letters`, without a broker."""
