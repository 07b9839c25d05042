"""Publishing: content, confirms, returns, transactions and direct replies."""
