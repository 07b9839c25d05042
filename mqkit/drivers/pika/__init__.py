"""The default driver, on pika."""
