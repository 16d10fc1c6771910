"""The rules of the house that the import statements must keep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = {"kit", "patterns", "contracts"}
DRIVERS = {
    "aiohttp", "aiokafka", "alembic", "asyncpg", "fastapi", "httpx", "locust", "opensearchpy", "opentelemetry", "prometheus_client",
    "pydantic_settings", "redis", "requests", "sqlalchemy", "starlette", "uvicorn",
}  # fmt: skip


def imports(source: str) -> Iterator[str]:
    """Absolute module names a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def system_of(module: str) -> str | None:
    """`services.payments.store` belongs to `payments`, `services.simulators.bank.app` to `simulators.bank`."""
    parts = module.split(".")
    if parts[0] != "services" or len(parts) < 2:
        return None
    if parts[1] == "simulators":
        return ".".join(parts[1:3]) if len(parts) > 2 else None
    return parts[1]


def broken_rules(path: str, source: str) -> list[str]:
    """What this file imports and must not. `path` is relative to the root."""
    module = path.removesuffix(".py").replace("/", ".")
    own = system_of(module)
    problems = []
    for name in set(imports(source)):
        other = system_of(name)
        top = name.split(".")[0]
        if own is not None and other not in (None, own) and other not in SHARED:
            problems.append(f"{path} imports another service: {name}")
        if own in SHARED and other is not None and other not in SHARED:
            problems.append(f"{path} is shared and imports a service: {name}")
        if (own == "patterns" or path.endswith("/domain.py")) and (top in DRIVERS or other == "kit"):
            problems.append(f"{path} must stay pure and imports {name}")
        if top == "opensearchpy" and own is not None and path != "services/search/engine.py":
            problems.append(f"{path} talks to the search engine past services/search/engine.py")
        if path.startswith("labs/invariants/") and top == "services":
            problems.append(f"{path} is a checker and imports what it checks: {name}")
        if path.startswith("services/") and top in ("labs", "infra", "loadtests", "tests"):
            problems.append(f"{path} imports {name}: services know nothing of the lab")
    return problems


def sources() -> list[Path]:
    return [path for top in ("services", "labs", "infra", "loadtests") for path in sorted((ROOT / top).rglob("*.py"))]


def test_every_module_keeps_the_import_rules() -> None:
    found = [
        problem for path in sources() for problem in broken_rules(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("services/payments/api.py", "from services.webhooks import store"),
        ("services/payments/api.py", "import services.simulators.bank.app"),
        ("services/simulators/bank/app.py", "from services.payments.domain import Money"),
        ("services/kit/http.py", "def f():\n    import services.payments.store"),
        ("services/payments/domain.py", "import asyncpg"),
        ("services/patterns/retry.py", "from aiohttp import ClientSession"),
        ("services/patterns/retry.py", "from services.kit.clock import Clock"),
        ("labs/invariants/payments.py", "from services.payments import domain"),
        ("services/payments/api.py", "from labs.engine import model"),
        ("services/search/handlers.py", "from opensearchpy import AsyncOpenSearch"),
    ],
)
def test_a_broken_rule_is_noticed(path: str, source: str) -> None:
    assert broken_rules(path, source) != []
