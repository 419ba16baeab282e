"""A page and an HTTP interface for an exported model."""
