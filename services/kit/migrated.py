"""The role `migrate` of a service's command line. Without kit.migration, which costs some 30 MiB: the caller imports that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import asyncpg
from pydantic_settings import BaseSettings

from services.kit.settings import LabFlag, load, refuse_default_secrets

S = TypeVar("S", bound=BaseSettings)


def migrated(service: str, wanted: type[S], run: Callable[[S, LabFlag], str], *errors: type[Exception]) -> int:
    """Read the settings, run, write the sentence that `run` returns: exit 0; or why it was not done: exit 1.

    That is for what a database may raise, a ValueError, and the service's own `errors`; all else is a bug.
    """
    expected: tuple[type[Exception], ...] = (ValueError, OSError, asyncpg.PostgresError, *errors)
    settings, flag = load(wanted), load(LabFlag)
    refuse_default_secrets(flag, settings)
    try:
        told = run(settings, flag)
    except expected as error:
        sys.stderr.write(f"The migration of {service} was not done: {error}\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0
