"""A payments relay with one line missing: its records carry no traceparent."""

from __future__ import annotations

import dataclasses
import sys

from services.kit import kafka
from services.payments.__main__ import main

complete = kafka.EventHead.headers


def without_traceparent(self: kafka.EventHead) -> kafka.Headers:
    return complete(dataclasses.replace(self, traceparent=None))


if __name__ == "__main__":
    kafka.EventHead.headers = without_traceparent  # type: ignore[method-assign]  # the planted bug
    sys.exit(main(["relay"]))
