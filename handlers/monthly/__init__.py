"""What a bank reckons by month: fees, interest and statements; it knows nothing of messages."""
