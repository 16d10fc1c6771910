"""Delivery of events to endpoints that customers run."""
