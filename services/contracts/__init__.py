"""What services agree on: topics, event schemas, ports."""
