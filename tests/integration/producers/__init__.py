"""Producers against real databases, processes and dramatiq."""
