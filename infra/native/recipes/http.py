"""One GET to a local server."""

from __future__ import annotations

import http.client

from infra.native.recipes.base import LOOPBACK


def answers(port: int, path: str, timeout: float) -> bool:
    """Whether GET answers 2xx. Raises OSError or http.client.HTTPException when nobody speaks HTTP there."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        response.read()
        return 200 <= response.status < 300
    finally:
        connection.close()
