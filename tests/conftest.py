"""Fixtures for all tests."""

from tests.servers import kafka_server, postgres_server, redis_server

__all__ = ["kafka_server", "postgres_server", "redis_server"]
