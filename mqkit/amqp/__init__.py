"""AMQP's values as bytes: field tables, content headers, and what may be in them."""
