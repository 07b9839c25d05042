"""Dead letters as values: what they tell, which are meant, how they are shown and copied. Pure."""
