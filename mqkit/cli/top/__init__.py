"""`mqkit top`: a view of all services on a broker in a terminal, drawn again and again."""
