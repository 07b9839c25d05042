"""What mqkit asks of its drivers, on each of them."""
