"""One table of ports, and the compose file agrees with it."""

from __future__ import annotations

import re
from pathlib import Path

from services.contracts.ports import PORTS
from tests.documents import compose

ROOT = Path(__file__).resolve().parents[2]
PORT = re.compile(r"\$\{([A-Z0-9_]*PORT[A-Z0-9_]*):-(\d+)\}")


def test_no_port_is_given_twice() -> None:
    assert len(set(PORTS.values())) == len(PORTS)


def test_the_compose_file_uses_the_ports_of_the_table() -> None:
    used = {name: int(port) for name, port in PORT.findall((ROOT / "docker-compose.yml").read_text("utf-8"))}
    assert used == {name: port for name, port in PORTS.items() if name in used}
    assert {"POSTGRES_PORT", "KAFKA_PORT", "PAYMENTS_PORT"} <= set(used)


def test_every_published_port_is_on_loopback_and_the_same_inside() -> None:
    published = [mapping for service in compose()["services"].values() for mapping in service.get("ports", ())]
    assert published
    for mapping in published:
        match = re.fullmatch(r"127\.0\.0\.1:(\$\{[^}]+\}):(\$\{[^}]+\})", mapping)
        assert match is not None
        assert match[1] == match[2]
