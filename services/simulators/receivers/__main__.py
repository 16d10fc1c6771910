"""`python -m services.simulators.receivers`: the process sim-receivers."""

from __future__ import annotations

from services.kit.http import Tasks, serve
from services.kit.settings import ProcessSettings, load, refuse_default_secrets
from services.simulators.receivers.app import NAME, create_app
from services.simulators.receivers.settings import ReceiversSettings


def main() -> None:
    process = load(ProcessSettings)
    settings = load(ReceiversSettings)
    refuse_default_secrets(process, settings)
    tasks = Tasks()
    serve(create_app(process, settings, tasks), process, name=NAME, tasks=tasks)


if __name__ == "__main__":
    main()
