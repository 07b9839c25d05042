"""Dead letters on brokers: listed, replayed, archived, edited, dropped."""
