"""`python -m services.kit.probe URL`: exit 0 if the URL answers 200 within 3 s. The health check inside a container."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 3.0


def answers(url: str) -> bool:
    """True for a 200. Never raises for anything the network does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) == 2 and answers(sys.argv[1]) else 1)
