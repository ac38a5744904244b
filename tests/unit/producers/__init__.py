"""Decisions of the producers: no database, no network."""
