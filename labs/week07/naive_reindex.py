"""What whoever changes the naive program's schema does: asks it to delete, create and fill, and waits."""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    """Exit 0 once it is done."""
    connection = http.client.HTTPConnection(os.environ["NAIVE_ADDRESS"], timeout=60)
    connection.request("POST", "/v1/reindex")
    status = connection.getresponse().status
    sys.stdout.write(f"reindex: HTTP {status}\n")
    return 0 if status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
