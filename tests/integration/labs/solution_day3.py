"""The exercise of day 3 with a guard that holds: `python -m tests.integration.labs.solution_day3 guarded|stub`."""

from __future__ import annotations

import sys

from labs.week02 import yours_day3
from services.kit.http import serve
from services.kit.settings import ProcessSettings, load
from tests.unit.labs.test_yours_day3 import Counting, per_shard


class Guarded(Counting):
    """Each shard for itself."""

    def __init__(self) -> None:
        super().__init__(key=per_shard)


if __name__ == "__main__":
    if sys.argv[1] == "guarded":
        yours_day3.Guard = Guarded  # type: ignore[misc]  # what a learner writes in its place
    settings = load(ProcessSettings)
    serve(yours_day3.create_app(settings), settings, name="week02-day3-yours")
