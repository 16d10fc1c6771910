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
    from services.kit.migrated import migrated
    from services.kit.settings import LabFlag
    from services.payments import migrate
    from services.payments.settings import MigrateSettings

    def run(settings: MigrateSettings, flag: LabFlag) -> str:
        return f"database {migrate.run(settings, demo_merchants=flag.lab_profile)} is up to date"

    return migrated("payments", MigrateSettings, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
