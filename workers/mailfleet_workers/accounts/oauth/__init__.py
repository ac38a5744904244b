"""Access tokens in place of passwords (RFC 6749): got from a token endpoint, sealed, and shared by all workers."""
