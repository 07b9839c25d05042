"""Makes pages: templates in which everything is text, and secrets are masked."""
