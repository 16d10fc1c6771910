"""`python -m services.search api | indexer | canary | migrate | index ... | audit [--repair] | evaluate`."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str]) -> int:
    """Run one role. Exit 2 with the usage for anything else, 1 with a sentence if it could not be done."""
    from services.search import commands
    from services.search.evaluation import command as evaluation

    parser = argparse.ArgumentParser(prog="python -m services.search")
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("api", help="answer searches and suggestions, and serve the search page")
    roles.add_parser("indexer", help="keep the index as the catalogue is, told by its log")
    roles.add_parser("canary", help="measure how soon a change is found")
    roles.add_parser("migrate", help="bring the database up to date and have an index")
    commands.add_parsers(roles)
    evaluation.add_arguments(roles.add_parser("evaluate", help="how good each ranking is, by judged queries"))
    given = parser.parse_args(arguments)
    if given.role == "migrate":
        return _migrate()
    if given.role == "evaluate":
        return _evaluate(given)
    if given.role in ("index", "audit"):
        return commands.run(given)
    return _serve(given.role)


def _serve(role: str) -> int:
    from services.kit.http import serve
    from services.kit.settings import ProcessSettings, load, refuse_default_secrets

    process = load(ProcessSettings)
    if role == "api":
        from services.search.app import create_app
        from services.search.settings import ApiSettings, RelevanceSettings

        answering, ranking = load(ApiSettings), load(RelevanceSettings)
        refuse_default_secrets(process, answering)
        refuse_default_secrets(process, ranking)
        app, tasks = create_app(process, answering, relevance_settings=ranking)
    elif role == "indexer":
        from services.search import indexer
        from services.search.settings import IndexerSettings

        indexing = load(IndexerSettings)
        refuse_default_secrets(process, indexing)
        app, tasks = indexer.create_worker(process, indexing)
    else:
        from services.search import canary
        from services.search.settings import CanarySettings

        measuring = load(CanarySettings)
        refuse_default_secrets(process, measuring)
        app, tasks = canary.create_worker(process, measuring)
    serve(app, process, name=f"search-{role}", tasks=tasks)
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from services.kit.settings import LabFlag, load
    from services.search.evaluation import command
    from services.search.indices import READ
    from services.search.settings import EngineSettings

    return command.run(given, nodes=load(EngineSettings).engine_urls, alias=load(LabFlag).lab_prefix + READ)


def _migrate() -> int:
    from services.kit.migrated import migrated
    from services.kit.settings import LabFlag
    from services.search import migrate
    from services.search.engine import EngineError
    from services.search.settings import MigrateSettings

    def run(settings: MigrateSettings, flag: LabFlag) -> str:
        database, index = migrate.run(settings, flag.lab_prefix)
        return f"database {database} is up to date, queries read {index}"

    return migrated("search", MigrateSettings, run, EngineError)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
