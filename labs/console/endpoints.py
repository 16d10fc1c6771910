"""Where a project's Prometheus, Alertmanager and Jaeger answer: a second project has its ports shifted."""

from __future__ import annotations

from collections.abc import Mapping

from infra.runtime import RuntimeProblem
from labs.console.settings import HOST
from labs.console.stack import Stack
from services.contracts.ports import PORTS
from services.kit.errors import Problem

VARIABLES = {"prometheus": "PROMETHEUS_PORT", "alertmanager": "ALERTMANAGER_PORT", "jaeger": "JAEGER_PORT"}
DEFAULTS = {"prometheus": 17090, "alertmanager": 17093, "jaeger": 17686}


class NoSuchProject(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_project", "There is no such project", detail="There are dev and lab.")


class Endpoints:
    """`given` replaces what the projects say."""

    def __init__(self, stack: Stack, given: Mapping[str, str]) -> None:
        self._stack = stack
        self._given = given

    async def of(self, name: str, project: str) -> str:
        """Base URL of one of VARIABLES. Raises NoSuchProject."""
        if name in self._given:
            return self._given[name]
        if project not in {"dev", "lab"}:
            raise NoSuchProject
        variable = VARIABLES[name]
        default = str(PORTS.get(variable, DEFAULTS[name]))
        try:
            port = (await self._stack.variables(project, {variable: default}))[variable]
        except RuntimeProblem:
            port = default
        return f"http://{HOST}:{port}"
