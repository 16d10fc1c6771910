"""`python -m services.cron api|scheduler|migrate`."""

from __future__ import annotations

import sys

ROLES = ("api", "scheduler", "migrate")


def main(arguments: list[str]) -> int:
    """Run one role. Exit 2 with the usage for anything else."""
    role = arguments[0] if len(arguments) == 1 else ""
    if role not in ROLES:
        sys.stderr.write(f"usage: python -m services.cron {'|'.join(ROLES)}\n")
        return 2
    return _migrate() if role == "migrate" else _serve(role)


def _serve(role: str) -> int:
    from services.cron.settings import CronSettings, refuse_exceptions
    from services.kit.http import serve
    from services.kit.settings import ProcessSettings, load, refuse_default_secrets

    process, settings = load(ProcessSettings), load(CronSettings)
    refuse_default_secrets(process, settings)
    refuse_exceptions(process, settings)
    if role == "api":
        from services.cron.app import create_app

        serve(create_app(process, settings), process, name="cron-api")
    else:
        from services.cron import scheduler

        app, tasks = scheduler.create_worker(process, settings)
        serve(app, process, name=f"cron-scheduler {settings.node}", tasks=tasks)
    return 0


def _migrate() -> int:
    from services.cron import migrate
    from services.cron.settings import MigrateSettings
    from services.kit.migrated import migrated
    from services.kit.settings import LabFlag

    def run(settings: MigrateSettings, flag: LabFlag) -> str:
        return f"database {migrate.run(settings, demo_tenants=flag.lab_profile)} is up to date"

    return migrated("cron", MigrateSettings, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
