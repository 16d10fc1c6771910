"""Reads docker-compose.yml: the subset of the format that this repository uses. Any other key stops with its name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from infra.native.interpolate import Variables
from infra.runtime import Edge, RuntimeProblem

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]  # same interface, slower

HEALTHY = "service_healthy"
COMPLETED = "service_completed_successfully"
STARTED = "service_started"

_TOP = {"name", "services", "volumes"}
_SERVICE = {
    "image", "build", "profiles", "command", "environment", "ports", "volumes", "healthcheck", "depends_on",
    "mem_limit", "pids_limit", "init", "restart", "stop_signal", "stop_grace_period", "extra_hosts",
    "user", "read_only", "cap_drop", "security_opt", "tmpfs",
}  # fmt: skip
_HEALTH = {"test", "interval", "timeout", "retries", "start_period"}
_EDGE = {"listen", "upstream"}
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Port:
    host_ip: str
    published: int
    target: int


@dataclass(frozen=True, slots=True)
class Mount:
    """`source` is a volume's name when `named`, otherwise a path relative to the compose file or absolute."""

    source: str
    target: str
    named: bool
    read_only: bool


@dataclass(frozen=True, slots=True)
class Health:
    """`test` is a command without its CMD word; `shell` says that it is one line for a shell. Times in seconds."""

    test: tuple[str, ...]
    shell: bool = False
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service with every reference resolved. `memory_limit` in bytes, `stop_grace` in seconds.

    `builds`: its image is one that the file builds, by this service or by another.
    """

    name: str
    image: str
    builds: bool
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[Port, ...]
    mounts: tuple[Mount, ...]
    depends_on: Mapping[str, str]
    health: Health | None
    profiles: frozenset[str]
    memory_limit: int | None
    stop_signal: str
    stop_grace: float


@dataclass(frozen=True, slots=True)
class Stack:
    """`builders`: for each image that the file builds, the first service that does."""

    name: str
    services: Mapping[str, Service]
    edges: Mapping[str, Edge]
    builders: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def in_profile(self, profile: str) -> list[str]:
        """Names of the services of a profile, and those without any profile, in the file's order."""
        return [name for name, service in self.services.items() if not service.profiles or profile in service.profiles]

    def profiles(self) -> list[str]:
        return sorted({profile for service in self.services.values() for profile in service.profiles})

    def service(self, name: str) -> Service:
        """Raises RuntimeProblem for a name that the file does not have."""
        if name not in self.services:
            raise RuntimeProblem(f"There is no service '{name}'; the compose file has {', '.join(self.services)}.")
        return self.services[name]

    def with_dependencies(self, names: Iterable[str]) -> list[str]:
        """`names` and all they depend on, dependencies first. Raises RuntimeProblem for a cycle."""
        order: list[str] = []
        path: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            if name in path:
                raise RuntimeProblem(f"Services depend on each other in a circle: {' -> '.join([*path, name])}.")
            path.append(name)
            for dependency in self.service(name).depends_on:
                visit(dependency)
            path.pop()
            order.append(name)

        for name in names:
            visit(name)
        return order


class ComposeFile:
    """A parsed file; `resolve` gives the stack as it looks with a set of variables."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            document = yaml.load(path.read_text(), Loader=Loader)
        except FileNotFoundError:
            raise RuntimeProblem(f"There is no {path.name} in {path.parent}.") from None
        except yaml.YAMLError as error:
            raise RuntimeProblem(f"{path.name} is not valid YAML: {' '.join(str(error).split())}.") from None
        self._document = _mapping(document, path.name)

    def references(self) -> set[str]:
        """Names of all variables that the file mentions."""
        return set(re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", self.path.read_text()))

    def resolve(self, given: Mapping[str, str]) -> Stack:
        """Raises RuntimeProblem with the place of anything outside the supported subset."""
        variables = Variables(given)
        top = _mapping(_expand(self._document, variables, self.path.name), self.path.name)
        for key in top:
            if key not in _TOP and not key.startswith("x-"):
                raise _unsupported(key, "the top level")
        bodies = {
            name: _mapping(body, f"services.{name}") for name, body in _mapping(top.get("services"), "services").items()
        }
        builders = {str(body.get("image", "")): name for name, body in reversed(bodies.items()) if "build" in body}
        services = {name: _service(name, body, builders) for name, body in bodies.items()}
        stack = Stack(
            name=_text(top.get("name", "lab"), "name"),
            services=services,
            edges=_edges(top.get("x-edges")),
            builders=tuple(builders.values()),
            variables=dict(variables.resolved),
        )
        for service in services.values():
            for dependency in service.depends_on:
                stack.service(dependency)
        return stack


def read_env_file(path: Path) -> dict[str, str]:
    """`.env`: NAME=value lines, `#` comments, optional quotes. Missing file: empty. Raises RuntimeProblem for other lines."""
    values: dict[str, str] = {}
    if not path.exists():
        return values
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = raw.strip().removeprefix("export ")
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise RuntimeProblem(f"{path.name} line {number} is not NAME=value: '{line}'.")
        value = value.strip()
        if value[:1] in {"'", '"'} and value.endswith(value[0]) and len(value) > 1:
            value = value[1:-1]
        else:
            value = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
        values[name.strip()] = value
    return values


def _expand(node: object, variables: Variables, where: str) -> object:
    if isinstance(node, str):
        return variables.expand(node, where)
    if isinstance(node, dict):
        return {key: _expand(value, variables, f"{where}: {key}") for key, value in node.items()}
    if isinstance(node, list):
        return [_expand(value, variables, where) for value in node]
    return node


def _unsupported(key: object, where: str) -> RuntimeProblem:
    return RuntimeProblem(
        f"docker-compose.yml: '{key}' in {where} is not supported without Docker (infra/native/compose.py)."
    )


def _mapping(node: object, where: str) -> dict[str, object]:
    if node is None:
        return {}
    if not isinstance(node, dict) or not all(isinstance(key, str) for key in node):
        raise RuntimeProblem(f"docker-compose.yml: {where} must be a mapping.")
    return node


def _items(node: object, where: str) -> list[object]:
    if node is None:
        return []
    if not isinstance(node, list):
        raise RuntimeProblem(f"docker-compose.yml: {where} must be a list.")
    return node


def _text(node: object, where: str) -> str:
    if isinstance(node, bool) or not isinstance(node, str | int | float):
        raise RuntimeProblem(f"docker-compose.yml: {where} must be text.")
    return str(node)


def _whole(node: object, where: str) -> int:
    try:
        return int(_text(node, where))
    except ValueError:
        raise RuntimeProblem(f"docker-compose.yml: {where} must be a whole number, not '{node}'.") from None


def _known(body: Mapping[str, object], allowed: set[str], where: str) -> None:
    for key in body:
        if key not in allowed:
            raise _unsupported(key, where)


def _service(name: str, body: Mapping[str, object], built: Mapping[str, str]) -> Service:
    where = f"services.{name}"
    _known(body, _SERVICE, where)
    if str(body.get("restart", "no")) not in {"no", "False"}:
        raise _unsupported(f"restart: {body['restart']}", where)
    image = _text(body.get("image", ""), f"{where}.image")
    grace = body.get("stop_grace_period")
    limit = body.get("mem_limit")
    return Service(
        name=name,
        image=image,
        builds="build" in body or image in built,
        command=_command(body.get("command"), f"{where}.command"),
        environment=_environment(body.get("environment"), f"{where}.environment"),
        ports=tuple(_port(item, f"{where}.ports") for item in _items(body.get("ports"), f"{where}.ports")),
        mounts=tuple(_mount(item, f"{where}.volumes") for item in _items(body.get("volumes"), f"{where}.volumes")),
        depends_on=_dependencies(body.get("depends_on"), f"{where}.depends_on"),
        health=_health(body.get("healthcheck"), f"{where}.healthcheck"),
        profiles=frozenset(_text(item, f"{where}.profiles") for item in _items(body.get("profiles"), where)),
        memory_limit=None if limit is None else parse_bytes(_text(limit, where), f"{where}.mem_limit"),
        stop_signal=_text(body.get("stop_signal", "SIGTERM"), f"{where}.stop_signal"),
        stop_grace=10.0 if grace is None else parse_seconds(_text(grace, where), f"{where}.stop_grace_period"),
    )


def _command(node: object, where: str) -> tuple[str, ...]:
    if isinstance(node, str):
        return tuple(shlex.split(node))
    return tuple(_text(item, where) for item in _items(node, where))


def _environment(node: object, where: str) -> dict[str, str]:
    if isinstance(node, list):
        pairs = [_text(item, where).partition("=") for item in node]
        return {name: value for name, separator, value in pairs if separator}
    return {name: "" if value is None else _text(value, where) for name, value in _mapping(node, where).items()}


def _port(node: object, where: str) -> Port:
    parts = _text(node, where).split(":")
    if len(parts) not in {2, 3} or not all(part.isdigit() for part in parts[-2:]):
        raise _unsupported(node, where)
    return Port(parts[0] if len(parts) == 3 else "0.0.0.0", int(parts[-2]), int(parts[-1]))  # noqa: S104 (as Compose)


def _mount(node: object, where: str) -> Mount:
    parts = _text(node, where).split(":")
    if len(parts) not in {2, 3} or parts[2:] not in ([], ["ro"], ["rw"]):
        raise _unsupported(node, where)
    return Mount(parts[0], parts[1].rstrip("/"), parts[0][:1] not in {".", "/"}, parts[2:] == ["ro"])


def _dependencies(node: object, where: str) -> dict[str, str]:
    if isinstance(node, list):
        return {_text(item, where): STARTED for item in node}
    result: dict[str, str] = {}
    for name, body in _mapping(node, where).items():
        fields = _mapping(body, f"{where}.{name}")
        _known(fields, {"condition"}, f"{where}.{name}")
        result[name] = _text(fields.get("condition", STARTED), f"{where}.{name}")
        if result[name] not in {HEALTHY, COMPLETED, STARTED}:
            raise _unsupported(f"condition: {result[name]}", f"{where}.{name}")
    return result


def _health(node: object, where: str) -> Health | None:
    if node is None:
        return None
    body = _mapping(node, where)
    _known(body, _HEALTH, where)
    raw = body.get("test")
    words = ["CMD-SHELL", raw] if isinstance(raw, str) else [_text(item, where) for item in _items(raw, where)]
    if len(words) < 2 or words[0] not in {"CMD", "CMD-SHELL"}:
        raise _unsupported(f"test: {raw}", where)
    default = Health(())
    return Health(
        test=tuple(words[1:]),
        shell=words[0] == "CMD-SHELL",
        interval=_optional_seconds(body.get("interval"), default.interval, where),
        timeout=_optional_seconds(body.get("timeout"), default.timeout, where),
        retries=_whole(body.get("retries", default.retries), f"{where}.retries"),
        start_period=_optional_seconds(body.get("start_period"), default.start_period, where),
    )


def _edges(node: object) -> dict[str, Edge]:
    edges: dict[str, Edge] = {}
    for name, body in _mapping(node, "x-edges").items():
        where = f"x-edges.{name}"
        fields = _mapping(body, where)
        _known(fields, _EDGE, where)
        client, separator, server = name.partition(".")
        if not separator or not server:
            raise RuntimeProblem(f"docker-compose.yml: {where} must be named client.server.")
        edges[name] = Edge(
            name, client, server, _text(fields.get("listen"), where), _text(fields.get("upstream"), where)
        )
    return edges


def parse_bytes(text: str, where: str) -> int:
    """`256m` -> 268435456 (powers of 1024, as Compose). Raises RuntimeProblem."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match.group(2) not in _BYTES:
        raise RuntimeProblem(f"docker-compose.yml: {where} must be a size like 256m, not '{text}'.")
    return int(float(match.group(1)) * _BYTES[match.group(2)])


def parse_seconds(text: str, where: str) -> float:
    """`1m30s` -> 90.0. Raises RuntimeProblem."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise RuntimeProblem(f"docker-compose.yml: {where} must be a duration like 20s, not '{text}'.")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _optional_seconds(node: object, default: float, where: str) -> float:
    return default if node is None else parse_seconds(_text(node, where), where)
