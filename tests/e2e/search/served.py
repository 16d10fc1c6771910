"""The search API on an engine that finds thirty lamps: `python -m tests.e2e.search.served PORT`."""

from __future__ import annotations

import sys

from services.kit.http import serve
from services.kit.settings import ProcessSettings
from services.search.app import create_app
from services.search.settings import ApiSettings
from tests.unit.search.fake_engine import KEY, FakeEngine, source

BRANDS = ("Castou", "Nord", "Olm")


def main(port: int) -> None:
    lamps = [
        source(number, title=f"{BRANDS[number % 3]} lamp {number}", brand=BRANDS[number % 3]) for number in range(1, 31)
    ]
    process = ProcessSettings(http_port=port)
    settings = ApiSettings.model_validate({"engine_urls": "http://127.0.0.1:1", "cursor_key": KEY})
    app, tasks = create_app(process, settings, engine=FakeEngine(lamps))
    serve(app, process, name="search-api", tasks=tasks)


if __name__ == "__main__":
    main(int(sys.argv[1]))
