"""Which values `${NAME}` gets in a project: .env, the shell, then the runtime's overlay. The overlay is never written down."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from infra.native.compose import ComposeFile, Stack, read_env_file
from infra.native.layout import Layout
from infra.native.recipes.base import LOOPBACK
from infra.runtime import Edge, RuntimeProblem

TOXIPROXY = "toxiproxy"
_PORT_NAME = re.compile(r"(^|_)PORT(_|$)")


class ProjectFile:
    """docker-compose.yml as one project sees it."""

    def __init__(self, layout: Layout, *, port_offset: int = 0, edges: bool = False) -> None:
        self._file = ComposeFile(layout.root / "docker-compose.yml")
        self._layout = layout
        self._stacks: dict[tuple[tuple[str, str], ...], Stack] = {}
        self._base: dict[str, str] = {}
        self._listen_host = LOOPBACK if layout.runtime == "native" else TOXIPROXY
        self.configure(port_offset=port_offset, edges=edges)

    def configure(self, *, port_offset: int, edges: bool) -> None:
        """Raises RuntimeProblem for a file outside the supported subset."""
        given = given_values(self._layout.root)
        require_port_numbers({name: given[name] for name in self._file.references() if name in given})
        plain = self._file.resolve(given)
        overlay = {"LAB_CONFIG": str(self._layout.config.absolute())}
        if self._listen_host == LOOPBACK:
            hosts = {name for name in self._file.references() if name.endswith("_HOST")}
            overlay |= dict.fromkeys(hosts, LOOPBACK) | {"BIND_HOST": LOOPBACK}
        overlay |= shifted_ports(plain.variables, port_offset)
        self._base = {**given, **overlay}
        self._stacks.clear()
        if edges:
            self._base |= {edge_variable(name): edge.listen for name, edge in self.edges().items()}
            self._stacks.clear()

    def stack(self, env: Mapping[str, str] | None = None) -> Stack:
        key = tuple(sorted((env or {}).items()))
        if key not in self._stacks:
            self._stacks[key] = self._file.resolve({**self._base, **(env or {})})
        return self._stacks[key]

    def variable(self, name: str) -> str:
        values = {**self._base, **self.stack().variables}
        if name not in values:
            raise RuntimeProblem(f"docker-compose.yml uses no variable '{name}'.")
        return values[name]

    def edges(self) -> dict[str, Edge]:
        """`listen` is where the client finds the proxy."""
        host = self._listen_host
        return {name: replace(edge, listen=f"{host}:{edge.listen}") for name, edge in self.stack().edges.items()}

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """All variables, for a `docker compose` that is to see the file as this project does."""
        return {**os.environ, **self._base, **env}

    def port_variable(self, port: int) -> str | None:
        """The variable that sets a port."""
        for name, value in self.stack().variables.items():
            if _PORT_NAME.search(name) and value == str(port):
                return name
        return None


def given_values(root: Path) -> dict[str, str]:
    """What the learner has set: the shell over `.env`. Raises RuntimeProblem for a damaged `.env`."""
    return {**read_env_file(root / ".env"), **os.environ}


def require_port_numbers(values: Mapping[str, str]) -> None:
    """Raises RuntimeProblem for a port variable that is no port."""
    for name, value in values.items():
        if _PORT_NAME.search(name) and not (value.isdigit() and 0 < int(value) < 65536):
            raise RuntimeProblem(f"{name} must be a port number, not '{value}'; see .env.")


def shifted_ports(variables: Mapping[str, str], offset: int) -> dict[str, str]:
    """Every port variable plus `offset`. Raises RuntimeProblem for one that leaves the range."""
    ports = {name: value for name, value in variables.items() if _PORT_NAME.search(name)}
    require_port_numbers(ports)
    shifted = {name: str(int(value) + offset) for name, value in ports.items()}
    require_port_numbers(shifted)
    return shifted


def edge_variable(name: str) -> str:
    """`payments.postgres` -> EDGE_PAYMENTS_POSTGRES."""
    return "EDGE_" + re.sub(r"[-.]", "_", name).upper()
