"""`python -m services.webhooks api|dispatcher|source|keeper|migrate`."""

from __future__ import annotations

import sys

ROLES = ("api", "dispatcher", "source", "keeper", "migrate")
ENVELOPE_BYTES = 8 * 1024
"""Room for what stands around a payload."""


def main(arguments: list[str]) -> int:
    """Run one role. Exit 2 with the usage for anything else."""
    role = arguments[0] if len(arguments) == 1 else ""
    if role not in ROLES:
        sys.stderr.write(f"usage: python -m services.webhooks {'|'.join(ROLES)}\n")
        return 2
    return _migrate() if role == "migrate" else _serve(role)


def _serve(role: str) -> int:
    from services.kit.http import serve
    from services.kit.settings import ProcessSettings, load, refuse_default_secrets
    from services.webhooks.settings import WebhooksSettings

    process, settings = load(ProcessSettings), load(WebhooksSettings)
    refuse_default_secrets(process, settings)
    if role == "api":
        from services.webhooks.app import create_app
        from services.webhooks.schemas import PAYLOAD_BYTES

        process = process.model_copy(update={"max_body_bytes": PAYLOAD_BYTES + ENVELOPE_BYTES})
        app, tasks = create_app(process, settings)
    elif role == "dispatcher":
        from services.webhooks import dispatcher

        app, tasks = dispatcher.create_worker(process, settings)
    elif role == "source":
        from services.webhooks import source

        app, tasks = source.create_worker(process, settings)
    else:
        from services.webhooks import keeper

        app, tasks = keeper.create_worker(process, settings)
    serve(app, process, name=f"webhooks-{role}", tasks=tasks)
    return 0


def _migrate() -> int:
    from services.kit.migrated import migrated
    from services.kit.settings import LabFlag
    from services.webhooks import migrate
    from services.webhooks.settings import MigrateSettings

    def run(settings: MigrateSettings, flag: LabFlag) -> str:
        return f"database {migrate.run(settings, demo=flag.lab_profile)} is up to date"

    return migrated("webhooks", MigrateSettings, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
