"""`python -m services.payments api|relay|resolver|reconciler|migrate`."""

from __future__ import annotations

import sys

ROLES = ("api", "relay", "resolver", "reconciler", "migrate")


def main(arguments: list[str]) -> int:
    """Run one role. Exit 2 with the usage for anything else."""
    role = arguments[0] if arguments else ""
    if role == "migrate" and len(arguments) == 1:
        return _migrate()
    if role == "reconciler":
        from services.payments import reconciler

        return reconciler.main(arguments[1:])
    if role not in ROLES or len(arguments) != 1:
        sys.stderr.write(f"usage: python -m services.payments {'|'.join(ROLES)}\n")
        return 2
    return _serve(role)


def _serve(role: str) -> int:
    from services.kit.http import serve
    from services.kit.settings import ProcessSettings, load, refuse_default_secrets
    from services.payments.settings import PaymentsSettings

    process, settings = load(ProcessSettings), load(PaymentsSettings)
    refuse_default_secrets(process, settings)
    if role == "api":
        from services.payments.app import create_app

        serve(create_app(process, settings), process, name="payments-api")
    elif role == "relay":
        from services.payments import relay

        app, tasks = relay.create_worker(process, settings)
        serve(app, process, name="payments-relay", tasks=tasks)
    else:
        from services.payments import resolver

        app, tasks = resolver.create_worker(process, settings)
        serve(app, process, name="payments-resolver", tasks=tasks)
    return 0


def _migrate() -> int:
    import asyncpg

    from services.kit.settings import load, refuse_default_secrets
    from services.payments import migrate
    from services.payments.settings import LabFlag, MigrateSettings

    settings, flag = load(MigrateSettings), load(LabFlag)
    refuse_default_secrets(flag, settings)
    try:
        name = migrate.run(settings, demo_merchants=flag.lab_profile)
    except (ValueError, OSError, asyncpg.PostgresError) as error:
        sys.stderr.write(f"The payments database was not migrated: {error}\n")
        return 1
    sys.stdout.write(f"database {name} is up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
