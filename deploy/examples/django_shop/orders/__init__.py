"""A shop on Django: an order and its confirmation are written in one transaction."""
