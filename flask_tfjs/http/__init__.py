"""HTTP semantics (RFC 9110, RFC 9111, Fetch) for files that are models."""
