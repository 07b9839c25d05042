"""Encodes and decodes AMQP's field tables and content headers, and checks what may be in them."""
