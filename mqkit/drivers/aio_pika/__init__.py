"""The driver on aio-pika."""
