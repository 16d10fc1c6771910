"""`python -m services.simulators.bank`: the process sim-bank."""

from __future__ import annotations

from services.kit.http import Tasks, serve
from services.kit.settings import ProcessSettings, load, refuse_default_secrets
from services.simulators.bank.app import NAME, create_app
from services.simulators.bank.settings import BankSettings


def main() -> None:
    process = load(ProcessSettings)
    settings = load(BankSettings)
    refuse_default_secrets(process, settings)
    tasks = Tasks()
    serve(create_app(process, settings, tasks), process, name=NAME, tasks=tasks, more_ports=tuple(settings.shards))


if __name__ == "__main__":
    main()
