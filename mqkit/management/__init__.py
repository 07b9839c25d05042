"""A small client of RabbitMQ's management HTTP API, which shows what AMQP does not."""

from mqkit.management.api import ManagementApi

__all__ = ["ManagementApi"]
