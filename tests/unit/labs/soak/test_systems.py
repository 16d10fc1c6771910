"""The house is whole: every invariant is asked or said why not, every process and topic has its place."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from labs.engine.model import Finding, Status
from labs.engine.world import TrialContext, World
from labs.soak.bounds import DEAD_LETTERS, TOPICS
from labs.soak.growth import FILLS_ITS_CACHE
from labs.soak.judging import in_doubt
from labs.soak.systems import HOUSE, INFRASTRUCTURE, NOT_ASKED, PROCESSES, SOURCES, SYSTEMS, TIMED
from services.contracts.topics import TOPICS as CONTRACTS
from tests.documents import compose
from tests.labs.fake_world import FakeRuntime

ROOT = Path(__file__).resolve().parents[4]
COMPOSE = compose()


def every_invariant() -> set[str]:
    """Functions of labs/invariants that judge evidence, and those that make such a function."""
    found = set()
    for path in (ROOT / "labs" / "invariants").glob("*.py"):
        module = importlib.import_module(f"labs.invariants.{path.stem}")
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
            if own and value.__annotations__.get("return") in ("Finding", "Invariant"):
                found.add(name)
    return found


def test_every_invariant_is_asked_or_there_is_a_reason_why_not() -> None:
    asked = {one.__name__ for system in SYSTEMS for one in system.invariants}
    assert asked | NOT_ASKED.keys() == every_invariant()
    assert not asked & NOT_ASKED.keys()


def test_what_is_judged_by_the_clock_is_asked() -> None:
    assert {one.__name__ for system in SYSTEMS for one in system.invariants} >= TIMED


def test_every_process_is_in_the_compose_file_and_so_is_every_edge() -> None:
    assert {*PROCESSES, *INFRASTRUCTURE} <= COMPOSE["services"].keys()
    assert set(HOUSE.edges.values()) <= COMPOSE["x-edges"].keys()
    assert len(set(PROCESSES)) == len(PROCESSES)
    assert COMPOSE["services"].keys() >= FILLS_ITS_CACHE


def test_every_long_running_process_of_weeks_2_and_7_is_in_the_house() -> None:
    ours = {
        name
        for name, service in COMPOSE["services"].items()
        if {"week2", "week7"} & set(service.get("profiles", ())) and service["image"].startswith("backend-lab:")
    }
    assert ours <= set(PROCESSES)


def test_each_process_starts_after_what_it_depends_on() -> None:
    for number, name in enumerate(PROCESSES):
        needed = COMPOSE["services"][name].get("depends_on", {})
        assert set(needed) <= {*INFRASTRUCTURE, *PROCESSES[:number]}, name


def test_the_systems_see_every_load_and_the_loads_differ_in_their_keys() -> None:
    names = [one.name for one in SOURCES]
    assert {source for system in SYSTEMS for source in system.sources} == set(names)
    assert len({one.run for one in SOURCES}) == len(names)
    assert all("-" not in one.run for one in SOURCES), "cron reads the number behind the last hyphen of a key"
    assert all(one.to in PROCESSES for one in SOURCES)
    assert all((ROOT / one.load.script).exists() for one in SOURCES)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_whoever_leads_has_a_link_to_its_store_that_can_be_cut(number: int) -> None:
    runtime = FakeRuntime(links=tuple(HOUSE.edges.values()))
    context = TrialContext(
        cast("World", SimpleNamespace(runtime=runtime)), HOUSE, {"leader": f"cron-scheduler-{number}"}
    )
    assert context.edge("leader.store").name == f"cron-scheduler-{number}.postgres"


def test_every_topic_of_the_contracts_has_a_bound_or_is_for_dead_letters() -> None:
    assert {topic.name for topic in CONTRACTS} <= {*TOPICS, *DEAD_LETTERS}


def test_on_a_machine_that_could_not_keep_time_the_clock_condemns_nobody() -> None:
    broken, held = Finding(Status.BROKEN, ("a",), 1, "late"), Finding(Status.HELD)
    assert in_doubt("failover_in_time", broken, "it was busy").status is Status.UNKNOWN
    assert in_doubt("failover_in_time", broken, "").status is Status.BROKEN
    assert in_doubt("failover_in_time", held, "it was busy").status is Status.HELD
    assert in_doubt("charged_exactly_once", broken, "it was busy").status is Status.BROKEN
