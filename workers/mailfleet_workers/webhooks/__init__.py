"""Webhooks: events that the changes of mails have written are brought to the endpoints of the settings."""
