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
    import asyncpg

    from services.kit.settings import load, refuse_default_secrets
    from services.webhooks import migrate
    from services.webhooks.settings import LabFlag, MigrateSettings

    settings, flag = load(MigrateSettings), load(LabFlag)
    refuse_default_secrets(flag, settings)
    try:
        name = migrate.run(settings, demo=flag.lab_profile)
    except (ValueError, OSError, asyncpg.PostgresError) as error:
        sys.stderr.write(f"The webhooks database was not migrated: {error}\n")
        return 1
    sys.stdout.write(f"database {name} is up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
