"""Dead letters: which messages become one, and what is told of them."""
