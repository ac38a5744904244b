"""The limiter: what all workers of a fleet may do together. One interface, one conformance suite over its kinds."""
