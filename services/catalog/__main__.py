"""`python -m services.catalog api|connector|sales|migrate|resnapshot`, `fill --products 50000 [--seed 1]`, and `judgements`."""

from __future__ import annotations

import argparse
import asyncio
import sys

LARGEST = 10_000_000


def main(arguments: list[str]) -> int:
    """Run one role. Exit 2 with the usage for anything else, 1 with a sentence if something refuses."""
    from services.catalog import judgements

    parser = argparse.ArgumentParser(prog="python -m services.catalog")
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("api", help="the HTTP interface")
    roles.add_parser("connector", help="register the connector that reads the database's log, and watch it")
    roles.add_parser("sales", help="take what is paid off the stock")
    roles.add_parser("migrate", help="create the database or bring it up to date")
    roles.add_parser("resnapshot", help="have every product told once more, from a new slot on")
    filling = roles.add_parser("fill", help="generate products; goes on where an earlier fill was")
    filling.add_argument("--products", type=int, required=True, help=f"1 to {LARGEST}")
    filling.add_argument("--seed", type=int, default=1)
    judgements.add_arguments(roles.add_parser("judgements", help="judged queries of a generated catalogue"))
    given = parser.parse_args(arguments)
    match given.role:
        case "api" | "connector" | "sales":
            return _serve(given.role)
        case "migrate":
            return _migrate()
        case "resnapshot":
            return _resnapshot()
        case "judgements":
            return judgements.run(given)
    if not 1 <= given.products <= LARGEST:
        parser.error(f"--products is 1 to {LARGEST}")
    return _fill(given.seed, given.products)


def _serve(role: str) -> int:
    from services.kit.http import serve
    from services.kit.settings import ProcessSettings, load, refuse_default_secrets

    process = load(ProcessSettings)
    if role == "api":
        from services.catalog.app import STREAMED, create_app
        from services.catalog.settings import ApiSettings

        settings = load(ApiSettings)
        refuse_default_secrets(process, settings)
        serve(create_app(process, settings), process, name="catalog-api", streamed=STREAMED)
    elif role == "sales":
        from services.catalog import sales
        from services.catalog.settings import SalesSettings

        selling = load(SalesSettings)
        refuse_default_secrets(process, selling)
        app, tasks = sales.create_worker(process, selling)
        serve(app, process, name="catalog-sales", tasks=tasks)
    else:
        from services.catalog.cdc import create_worker
        from services.catalog.settings import ConnectorSettings

        connector = load(ConnectorSettings)
        refuse_default_secrets(process, connector)
        app, tasks = create_worker(process, connector)
        serve(app, process, name="catalog-connector", tasks=tasks)
    return 0


def _resnapshot() -> int:
    from services.catalog.cdc import resnapshot
    from services.catalog.connect import ConnectAway, ConnectRefused
    from services.catalog.settings import ConnectorSettings
    from services.kit.settings import LabFlag, load, refuse_default_secrets
    from services.kit.store import StoreUnavailable

    flag, settings = load(LabFlag), load(ConnectorSettings)
    refuse_default_secrets(flag, settings)
    try:
        asyncio.run(resnapshot(flag.lab_prefix, settings))
    except (ConnectAway, ConnectRefused, StoreUnavailable) as error:
        sys.stderr.write(f"The snapshot was not ordered: {error}\n")
        return 1
    sys.stdout.write("a new snapshot is ordered\n")
    return 0


def _fill(seed: int, products: int) -> int:
    import asyncpg

    from services.catalog.fill import fill
    from services.catalog.settings import CatalogSettings
    from services.catalog.store.bulk import OtherFill
    from services.kit.settings import LabFlag, load, refuse_default_secrets

    settings = load(CatalogSettings)
    refuse_default_secrets(load(LabFlag), settings)

    def tell(there: int, wanted: int) -> None:
        sys.stdout.write(f"{there:,} of {wanted:,} products\n")
        sys.stdout.flush()

    try:
        written = asyncio.run(fill(settings.database_url.get_secret_value(), seed, products, tell))
    except (OtherFill, OSError, asyncpg.PostgresError) as error:
        sys.stderr.write(f"The catalogue was not filled: {error}\n")
        return 1
    sys.stdout.write(f"{written:,} products written\n")
    return 0


def _migrate() -> int:
    from services.catalog import migrate
    from services.catalog.settings import MigrateSettings
    from services.kit.migrated import migrated
    from services.kit.settings import LabFlag

    def run(settings: MigrateSettings, flag: LabFlag) -> str:
        return f"database {migrate.run(settings, demo_keys=flag.lab_profile)} is up to date"

    return migrated("catalog", MigrateSettings, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
