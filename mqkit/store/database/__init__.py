"""The store's database: connections, transactions, dialects, failures and migrations."""
