"""Decisions of the RabbitMQ broker, and what it takes for granted of dramatiq and pika: no network."""
