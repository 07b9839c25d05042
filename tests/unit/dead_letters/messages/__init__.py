"""What is read of dead letters, shown, and made of them."""
