"""The payment services on RabbitMQ and PostgreSQL, while all of it fails in turn."""
