"""`python -m services.simulators.target`: the process sim-target."""

from __future__ import annotations

from services.kit.http import serve
from services.kit.settings import ProcessSettings, load, refuse_default_secrets
from services.simulators.target.app import NAME, create_app
from services.simulators.target.settings import TargetSettings


def main() -> None:
    process = load(ProcessSettings)
    settings = load(TargetSettings)
    refuse_default_secrets(process, settings)
    serve(create_app(process, settings), process, name=NAME)


if __name__ == "__main__":
    main()
