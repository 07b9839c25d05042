"""Dead letters as values: what is read of them, shown, and made of them."""
