"""Plumbing that every service shares: settings, HTTP, telemetry, health, Kafka, Postgres, failpoints."""
