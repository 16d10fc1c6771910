"""Scenarios that share processes, holds, set-up steps, figures, roles decided at inject: on the world without servers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from labs.__main__ import until_done
from labs.engine import (
    Discriminates,
    Evidence,
    FaultContext,
    Figure,
    Finding,
    Lab,
    Outcome,
    PrepareFailedError,
    Scenario,
    Settled,
    Status,
    Variant,
    VariantRole,
    at,
)
from labs.engine.files import FaultLine, HistoryLine, ProbeLine, read_lines
from labs.engine.model import InjectFailedError, Json, Operation, Verdict
from labs.engine.run import Options
from labs.faults import kill
from tests.labs.fake_world import VARIANTS, FakeLab, FlagFault, exactly_once

pytestmark = pytest.mark.slow


@pytest.fixture
def fake(tmp_path: Path) -> FakeLab:
    return FakeLab(tmp_path)


def stormy(fake: FakeLab, name: str = "stormy", **more: object) -> Scenario:
    return replace(Scenario(name=name, faults=(at(0.05, FlagFault(fake.world)),)), **more)  # type: ignore[arg-type]


def of_scenarios(fake: FakeLab, *scenarios: Scenario, share: bool = True) -> Lab:
    return replace(fake.lab(), faults=(), scenarios=scenarios, share_processes=share)


def starts(fake: FakeLab, service: str) -> int:
    return fake.runtime.calls.count(f"start {service}")


# --- sharing processes ------------------------------------------------------------------------------------------------


async def test_scenarios_that_share_processes_have_one_start_and_one_control_for_each_variant(fake: FakeLab) -> None:
    lab = of_scenarios(fake, stormy(fake), stormy(fake, "again"))
    assert await fake.run(lab) == 0, fake.text
    assert (starts(fake, "naive"), starts(fake, "engineered")) == (1, 1)
    assert len({prefix for prefix in fake.dropped if prefix}) == 2
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    assert {line.scenario for line in lines if line.phase == "control"} == {"stormy"}
    assert {line.scenario for line in lines if line.phase == "baseline"} == {"stormy", "again"}


async def test_variants_are_tried_one_after_the_other_when_they_share_processes(fake: FakeLab) -> None:
    await fake.run(of_scenarios(fake, stormy(fake), stormy(fake, "again")))
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    seen = list(dict.fromkeys((line.variant, line.scenario) for line in lines))
    assert seen == [("naive", "stormy"), ("naive", "again"), ("engineered", "stormy"), ("engineered", "again")]


async def test_a_scenario_is_not_blamed_for_what_broke_in_the_one_before_on_the_same_databases(fake: FakeLab) -> None:
    fake.bugs = {"naive": {"fault": "duplicate"}, "engineered": {"fault": "duplicate"}}
    lab = of_scenarios(fake, stormy(fake), Scenario(name="calm", faults=()))
    assert await fake.run(lab, Options(variant="engineered")) == 1
    found = {
        name: one.variants["engineered"].invariants["exactly_once"].status
        for name, one in fake.verdict.scenarios.items()
    }
    assert found == {"stormy": Status.BROKEN, "calm": Status.HELD}
    reconciled = json.loads((fake.folder / "reconcile.json").read_text())["scenarios"]["calm"]["engineered"]
    assert reconciled["unexpected"]["count"] == 0
    assert reconciled["duplicated"]["count"] == 0


async def test_operations_of_scenarios_on_one_database_have_keys_of_their_own(fake: FakeLab) -> None:
    await fake.run(of_scenarios(fake, stormy(fake), stormy(fake, "again")), Options(variant="naive"))
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    first, second = ({line.key for line in lines if line.scenario == name} for name in ("stormy", "again"))
    assert first
    assert not first & second


async def test_evidence_tells_the_stretch_of_its_own_scenario(fake: FakeLab) -> None:
    windows: dict[str, tuple[tuple[float, float], tuple[Operation, ...]]] = {}

    async def remembers(evidence: Evidence) -> Finding:
        """Holds always."""
        if evidence.faults:
            windows[evidence.scenario] = (evidence.window, evidence.history)
        return Finding.of([])

    lab = replace(of_scenarios(fake, stormy(fake), stormy(fake, "again")), invariants=(exactly_once, remembers))
    await fake.run(lab, Options(variant="engineered"))
    (first, _), (second, history) = windows["stormy"], windows["again"]
    assert first[0] < first[1] <= second[0] < second[1]
    own = [one for one in history if one.phase != "control"]
    assert own
    assert all(second[0] <= one.intended_at <= second[1] for one in own)
    assert any(one.phase == "control" for one in history)


async def test_after_a_scenario_that_ended_badly_the_next_one_starts_afresh(fake: FakeLab) -> None:
    unproven = stormy(fake, faults=(at(0.05, FlagFault(fake.world, proven=False)),))
    lab = of_scenarios(fake, unproven, stormy(fake, "again"))
    assert await fake.run(lab, Options(variant="engineered")) == 3
    assert starts(fake, "engineered") == 2
    again = fake.verdict.scenarios["again"].variants["engineered"]
    assert again.verdict is Verdict.PASS
    assert "engineered" not in fake.runtime.running


async def test_without_sharing_an_identical_control_is_made_once_and_every_trial_is_fresh(fake: FakeLab) -> None:
    lab = of_scenarios(fake, stormy(fake), stormy(fake, "again"), share=False)
    assert await fake.run(lab) == 0, fake.text
    assert starts(fake, "naive") == 2
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    assert {line.scenario for line in lines if line.phase == "control"} == {"stormy"}


# --- who is tried where, and who must break there ---------------------------------------------------------------------


async def test_a_naive_variant_decides_nothing_where_the_scenario_does_not_name_it(fake: FakeLab) -> None:
    calm = Scenario(name="calm", faults=(), broken_by=())
    assert await fake.run(of_scenarios(fake, stormy(fake), calm)) == 0, fake.text
    assert fake.verdict.scenarios["calm"].variants["naive"].invariants["exactly_once"].status is Status.HELD


async def test_one_naive_variant_alone_is_told_by_the_scenarios_it_must_break(fake: FakeLab) -> None:
    calm = Scenario(name="calm", faults=(), broken_by=())
    assert await fake.run(of_scenarios(fake, calm, stormy(fake)), Options(variant="naive")) == 0
    assert " naive broke exactly_once " in fake.text.rstrip().splitlines()[-1]


async def test_a_scenario_tries_only_the_variants_it_names(fake: FakeLab) -> None:
    alone = stormy(fake, "alone", variants=("engineered",))
    await fake.run(of_scenarios(fake, stormy(fake), alone))
    assert set(fake.verdict.scenarios["alone"].variants) == {"engineered"}


async def test_a_short_run_leaves_out_what_the_lab_says(fake: FakeLab) -> None:
    lab = of_scenarios(fake, stormy(fake), stormy(fake, "long", in_short=False))
    lab = replace(lab, variants={**VARIANTS, "slow": replace(VARIANTS["engineered"], in_short=False)})
    assert await fake.run(lab, Options(short=True)) == 0, fake.text
    assert set(fake.verdict.scenarios) == {"stormy"}
    assert set(fake.verdict.variants) == {"naive", "engineered"}


def test_a_scenario_that_names_no_variant_of_the_lab_and_a_naive_one_that_decides_nowhere_are_refused(
    fake: FakeLab,
) -> None:
    with pytest.raises(ValueError, match="names no variant of this lab: clever"):
        of_scenarios(fake, stormy(fake, broken_by=("clever",)))
    with pytest.raises(ValueError, match="naive must break the claim in no scenario"):
        of_scenarios(fake, stormy(fake, broken_by=()))


# --- hold -------------------------------------------------------------------------------------------------------------


def held(seconds: float, short: float | None = None) -> dict[str, Variant]:
    return {name: replace(one, hold=seconds, short_hold=short) for name, one in VARIANTS.items()}


async def test_load_is_held_on_after_the_heal_for_as_long_as_the_variant_says(fake: FakeLab) -> None:
    lab = replace(fake.lab(), variants=held(2.0))
    assert await fake.run(lab, Options(variant="engineered")) == 0, fake.text
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    heal = max(one.at for one in read_lines(fake.folder / "faults.jsonl", FaultLine))
    assert max(line.intended_at for line in lines) - heal >= 1.9
    recovery = fake.verdict.variants["engineered"].recovery_seconds
    assert recovery is not None
    assert recovery < 2.0


async def test_a_variant_that_never_recovers_is_given_its_hold_and_no_more(fake: FakeLab) -> None:
    fake.bugs = {"engineered": {"since": "error"}}
    lab = replace(fake.lab(), variants=held(0.8), faults=(at(0.0, FlagFault(fake.world, lasting=0.5)),))
    await fake.run(lab, Options(variant="engineered"))
    probes = read_lines(fake.folder / "probes.jsonl", ProbeLine)
    (again,) = [one for one in probes if one.name == "steady_again"]
    assert (again.ok, again.limit) == (False, 0.8)
    assert "did not recover in time: steady_again" in " ".join(fake.verdict.reasons)


async def test_a_probe_that_takes_longer_than_the_hold_hides_no_recovery(fake: FakeLab) -> None:
    async def thorough(_: Evidence) -> str:
        await asyncio.sleep(1.5)
        return ""

    lab = replace(fake.lab(), variants=held(0.8), settled=(Settled("thorough", thorough, within=10),))
    assert await fake.run(lab, Options(variant="engineered")) == 0, fake.text


async def test_recovery_lasts_until_all_has_settled_however_soon_clients_are_served(fake: FakeLab) -> None:
    async def slow(_: Evidence) -> str:
        await asyncio.sleep(0.8)
        return ""

    lab = replace(fake.lab(), variants=held(2.0), settled=(Settled("slow", slow, within=10),))
    assert await fake.run(lab, Options(variant="engineered")) == 0, fake.text
    recovery = fake.verdict.variants["engineered"].recovery_seconds
    assert recovery is not None
    assert recovery >= 0.8


async def test_a_recovery_that_does_not_last_over_the_hold_is_none(fake: FakeLab) -> None:
    fake.bugs = {"engineered": {"late_after_heal": "error"}}
    lab = replace(fake.lab(), variants=held(2.5))
    assert await fake.run(lab, Options(variant="engineered")) == 1
    assert "steady at first, and not over all of the hold" in " ".join(fake.verdict.reasons)
    assert fake.verdict.variants["engineered"].recovery_seconds is None


@pytest.mark.parametrize(("catching_up", "code"), [(3.5, 0), (0.5, 1)])
async def test_what_making_up_for_the_fault_costs_clients_is_part_of_the_recovery(
    fake: FakeLab, catching_up: float, code: int
) -> None:
    fake.bugs = {"engineered": {"hiccup_after_heal": "error"}}
    healed: list[float] = []

    async def behind(evidence: Evidence) -> str:
        if not evidence.faults:
            return ""  # the control run settles, too
        healed[:] = healed or [time.monotonic()]
        return "" if time.monotonic() - healed[0] >= catching_up else "behind"

    lab = replace(fake.lab(), variants=held(4.0), settled=(Settled("made_up", behind, within=20),))
    assert await fake.run(lab, Options(variant="engineered")) == code, fake.text
    assert ("not over all of the hold" in " ".join(fake.verdict.reasons)) is (code == 1)


async def test_a_short_run_has_a_hold_of_its_own(fake: FakeLab) -> None:
    lab = replace(fake.lab(), variants=held(60.0, short=0.5))
    assert await fake.run(lab, Options(variant="engineered", short=True)) == 0
    (again,) = [one for one in read_lines(fake.folder / "probes.jsonl", ProbeLine) if one.name == "steady_again"]
    assert again.limit == 0.5


# --- prepare, environment, options --------------------------------------------------------------------------------------


async def test_a_set_up_step_runs_before_any_load_and_its_time_is_kept(fake: FakeLab) -> None:
    calls = []

    async def prepare(ctx: FaultContext) -> str:
        calls.append(ctx.service("bank"))
        assert not list(fake.folder.parent.glob("*/raw/*.history.jsonl"))
        return "the bank has 20 workers"

    lab = replace(of_scenarios(fake, stormy(fake), stormy(fake, "again")), prepare=prepare)
    assert await fake.run(lab, Options(variant="engineered")) == 0, fake.text
    assert calls == ["bank"]
    (line,) = [one for one in read_lines(fake.folder / "probes.jsonl", ProbeLine) if one.name == "prepare"]
    assert line.note == "the bank has 20 workers"
    assert "the bank has 20 workers" in (fake.folder / "report.html").read_text()


@pytest.mark.parametrize("error", [PrepareFailedError("only 3 of 20 workers"), ZeroDivisionError("a mistake")])
async def test_a_set_up_step_that_fails_gives_unknown_and_nothing_is_injected(fake: FakeLab, error: Exception) -> None:
    async def prepare(ctx: FaultContext) -> str:
        raise error

    assert await fake.run(replace(fake.lab(), prepare=prepare), Options(variant="engineered")) == 3
    assert "could not be prepared" in fake.verdict.reasons[0]
    assert str(error) in fake.verdict.reasons[0]
    assert (fake.folder / "faults.jsonl").read_text() == ""


async def test_variables_of_the_lab_reach_the_processes_and_those_of_the_variant_win(fake: FakeLab) -> None:
    variants = {**VARIANTS, "engineered": replace(VARIANTS["engineered"], environment={"A": "variant"})}
    lab = replace(fake.lab(), environment={"A": "lab", "B": "lab"}, variants=variants)
    await fake.run(lab)
    assert fake.runtime.envs["naive"]["A"] == "lab"
    env = fake.runtime.envs["engineered"]
    assert (env["A"], env["B"]) == ("variant", "lab")
    assert env["LAB_PREFIX"].startswith("lab")
    described = json.loads((fake.folder / "experiment.json").read_text())["variants"]["engineered"]
    assert described["environment"] == {"A": "variant", "B": "lab"}


async def test_options_of_a_variant_go_to_its_load_with_variables_filled_in(fake: FakeLab) -> None:
    variants = {**VARIANTS, "engineered": replace(VARIANTS["engineered"], load_options=("--note", "http://${NAME}:1"))}
    assert await fake.run(replace(fake.lab(), variants=variants)) == 0, fake.text
    notes = {path.name: path.read_text() for path in fake.world.glob("note-*")}
    assert notes == {"note-7002": "http://secret:1"}


# --- figures ------------------------------------------------------------------------------------------------------------


async def test_figures_of_the_lab_are_kept_for_each_variant_and_scenario_and_shown(fake: FakeLab) -> None:
    async def figures(evidence: Evidence) -> Sequence[Figure]:
        told = sum(one.outcome is Outcome.OK for one in evidence.history)
        return (
            Figure("amplification", 22.5 if evidence.variant_name == "naive" else 1.02, "calls", "bank's table", 1.1),
            Figure("nothing", None, "s", "nowhere"),
            Figure("told", told, "operations", "client history"),
        )

    lab = replace(of_scenarios(fake, stormy(fake), stormy(fake, "again")), figures=figures)
    assert await fake.run(lab) == 0, fake.text
    kept = fake.verdict.scenarios["again"].variants["naive"].figures
    assert [(one.name, one.value, one.limit, one.scenario) for one in kept][:2] == [
        ("amplification", 22.5, 1.1, "again"),
        ("nothing", None, None, "again"),
    ]
    assert len(fake.verdict.variants["naive"].figures) == 6
    assert "amplification, again" in fake.text
    assert "22.5 calls (limit 1.1)" in fake.text
    html = (fake.folder / "report.html").read_text()
    assert "1.02 calls (limit 1.1)" in html
    assert "bank&#39;s table" in html


async def test_figures_that_crash_give_unknown(fake: FakeLab) -> None:
    async def figures(evidence: Evidence) -> Sequence[Figure]:
        raise ZeroDivisionError("a mistake")

    assert await fake.run(replace(fake.lab(), figures=figures), Options(variant="engineered")) == 3
    assert "figures of engineered could not be taken" in fake.verdict.reasons[0]


# --- roles decided at inject ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaders:
    """Names another leader each time it is asked."""

    names: tuple[str, ...]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, ctx: FaultContext) -> str:
        if len(self.asked) >= len(self.names):
            raise InjectFailedError("nobody leads")
        self.asked.append(self.names[len(self.asked)])
        return self.asked[-1]


def led(leaders: Leaders) -> dict[str, Variant]:
    return {name: replace(one, resolvers={"leader": leaders}) for name, one in VARIANTS.items()}


async def test_a_fault_hits_whom_the_resolver_names_at_inject_and_heals_the_same(fake: FakeLab) -> None:
    leaders = Leaders(("engineered", "bank"))
    faults = (at(0.0, kill("leader", down=0.1)), at(0.8, kill("leader", down=0.1)))
    lab = replace(fake.lab(), variants=led(leaders), faults=faults)
    assert await fake.run(lab, Options(variant="engineered")) == 0, fake.text
    lines = read_lines(fake.folder / "faults.jsonl", FaultLine)
    assert [(one.event, one.role, one.target) for one in lines] == [
        ("inject", "leader", "engineered"),
        ("heal", "leader", "engineered"),
        ("inject", "leader", "bank"),
        ("heal", "leader", "bank"),
    ]
    assert leaders.asked == ["engineered", "bank"]


async def test_a_role_that_nobody_plays_gives_unknown(fake: FakeLab) -> None:
    lab = replace(fake.lab(), variants=led(Leaders(())), faults=(at(0.0, kill("leader", down=0.1)),))
    assert await fake.run(lab, Options(variant="engineered")) == 3
    assert "nobody leads" in fake.verdict.reasons[0]
    assert not any(call.startswith("kill") for call in fake.runtime.calls)


async def test_a_link_of_a_resolved_role_is_that_of_the_role_which_its_service_always_plays(fake: FakeLab) -> None:
    seen: list[Json] = []

    @dataclass(frozen=True)
    class OnEdge(FlagFault):
        role: str = "leader.store"

        def target(self, ctx: FaultContext) -> str:
            return ctx.edge(self.role).name

        async def inject(self, ctx: FaultContext) -> object:
            seen.append(ctx.edge(self.role).name)
            return await super().inject(ctx)

    variant = Variant(
        role=VariantRole.ENGINEERED,
        roles={"sut": "engineered", "node1": "bank", "node2": "engineered"},
        processes=("bank", "engineered"),
        edges={"node1.store": "cron1.postgres", "sut.store": "cron2.postgres", "node2.store": "cron2.postgres"},
        resolvers={"leader": Leaders(("bank",))},
    )
    fake.runtime.links = ("cron1.postgres", "cron2.postgres")
    lab = replace(fake.lab(), variants={**VARIANTS, "engineered": variant}, faults=(at(0.0, OnEdge(fake.world)),))
    assert await fake.run(lab, Options(variant="engineered")) == 0, fake.text
    assert seen == ["cron1.postgres"]


async def test_a_fault_on_many_links_with_a_name_as_long_is_drawn(fake: FakeLab) -> None:
    long = FlagFault(fake.world, kind="together " + ", ".join(f"payments.shard{n}" for n in range(10)))
    lab = replace(fake.lab(), faults=tuple(at(0.05, long) for _ in range(8)))
    await fake.run(lab, Options(variant="engineered"))
    assert "payments.shard3" in (fake.folder / "report.html").read_text()


def test_a_role_cannot_be_bound_and_resolved_at_once() -> None:
    with pytest.raises(ValueError, match="bound and resolved at once: sut"):
        replace(VARIANTS["naive"], resolvers={"sut": Leaders(())})


# --- a week, and what is kept ---------------------------------------------------------------------------------------------


async def test_a_week_ends_with_a_table_of_its_days_and_the_worst_exit_code(fake: FakeLab) -> None:
    first = fake.lab()
    second = replace(
        fake.lab(), day=8, title="A day that shows nothing", discriminates=Discriminates(exactly_once, 10**6)
    )
    assert await fake.run_all([first, second]) == 1
    lines = fake.text.splitlines()
    table = lines[next(n for n, one in enumerate(lines) if one.split()[:2] == ["day", "verdict"]) :]
    assert any("week09-day9" in one and "pass" in one for one in table)
    assert any("week09-day8" in one and "fail" in one for one in table)
    assert table[-2].startswith("1 pass, 1 fail of 2 days; ")
    assert table[-2].endswith(" s in all, of 360 s")
    assert table[-1] == "VERDICT week09 fail"


async def test_days_of_several_weeks_end_with_one_verdict_for_all(fake: FakeLab) -> None:
    assert await fake.run_all([fake.lab(), replace(fake.lab(), week=10, day=1)], Options(seed=7)) == 0
    assert fake.text.rstrip().splitlines()[-1] == "VERDICT all pass"
    runs = fake.root / ".lab" / "runs"
    assert all(list(runs.glob(f"{lab}/*-seed7/verdict.json")) for lab in ("week09-day9", "week10-day1"))


async def test_an_interruption_in_the_middle_shows_what_was_judged_so_far(fake: FakeLab) -> None:
    reached = asyncio.Event()

    async def stands_still(evidence: Evidence) -> Finding:
        """Never ends."""
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody wakes it")

    days = [fake.lab(), replace(fake.lab(invariants=(stands_still,)), day=8), replace(fake.lab(), week=10, day=1)]
    work = asyncio.ensure_future(fake.run_all(days))
    told = asyncio.ensure_future(until_done(work, Console(file=fake.output)))
    async with asyncio.timeout(120):
        await reached.wait()
        work.cancel()
        assert await told == 130
    lines = [line.split() for line in fake.text.splitlines()]
    assert ["week09-day9", "pass"] in [[*line[:1], *[word for word in line if word == "pass"]] for line in lines]
    assert any(line[:1] == ["week09-day8"] and line[-1] == "interrupted" for line in lines)
    assert any(line[:1] == ["week10-day1"] and line[-2:] == ["not", "run"] for line in lines)
    assert "1 pass of 3 days; " in fake.text
    assert not any(line[:2] == ["VERDICT", "all"] for line in lines)
    assert fake.runtime.calls[-1] == "down"


async def test_servers_that_a_later_day_needs_stay_up_between_and_others_are_stopped(fake: FakeLab) -> None:
    days = [
        replace(fake.lab(), day=1, infrastructure=("postgres", "kafka")),
        replace(fake.lab(), day=2, infrastructure=("postgres",)),
        replace(fake.lab(), day=3, infrastructure=("kafka",)),
    ]
    await fake.run_all(days, Options(variant="engineered"))
    assert (starts(fake, "postgres"), starts(fake, "kafka")) == (1, 1)
    assert fake.runtime.calls.count("down") == 1
    assert "forget kafka" not in fake.runtime.calls
    assert "forget postgres" in fake.runtime.calls


async def test_a_day_that_cannot_be_run_is_unknown_and_the_next_one_runs(fake: FakeLab) -> None:
    fake.runtime.broken.add("redis")
    broken = replace(fake.lab(), day=8, infrastructure=("postgres", "redis"))
    assert await fake.run_all([broken, fake.lab()]) == 3
    assert "VERDICT week09-day8 unknown" in fake.text
    assert "VERDICT week09-day9 pass" in fake.text


async def test_the_newest_runs_and_those_marked_are_kept(fake: FakeLab) -> None:
    runs = fake.root / ".lab" / "runs" / "week09-day9"
    for day in range(1, 26):
        (runs / f"202501{day:02d}T000000Z-seed1").mkdir(parents=True)
    (runs / "20250102T000000Z-seed1" / "keep").touch()
    await fake.run(options=Options(variant="engineered"))
    left = sorted(path.name for path in runs.iterdir() if not path.is_symlink())
    assert len(left) == 21
    assert left[:2] == ["20250102T000000Z-seed1", "20250107T000000Z-seed1"]
    assert fake.folder.resolve().name == left[-1]


async def test_a_run_says_what_was_asked_for_and_how_long_it_took(fake: FakeLab) -> None:
    await fake.run(options=Options(variant="engineered", rate=90, predict="-", seed=7))
    experiment = msgspec.json.decode((fake.folder / "experiment.json").read_bytes())
    assert experiment["options"] == {"variant": "engineered", "rate": 90}
    assert experiment["commit"] is None
    assert fake.verdict.seconds is not None
    assert fake.verdict.seconds > 0


async def test_the_experiment_names_the_versions_of_its_servers(fake: FakeLab) -> None:
    (fake.root / "docker-compose.yml").write_text("services: {kafka: {image: 'apache/kafka:4.3.1'}}")
    await fake.run(options=Options(variant="engineered"))
    versions = msgspec.json.decode((fake.folder / "experiment.json").read_bytes())["versions"]
    assert versions["kafka"] == "4.3.1 (of the image)"
    assert versions["postgres"] == "not told"


async def test_a_week_that_is_interrupted_leaves_nothing_and_tells_what_was_not_run(fake: FakeLab) -> None:
    shared = of_scenarios(fake, stormy(fake), stormy(fake, "again"))
    run = asyncio.ensure_future(fake.run_all([shared, replace(fake.lab(), day=8)], Options(variant="engineered")))
    while "engineered again baseline" not in fake.text:
        assert not run.done(), fake.text
        await asyncio.wait([run], timeout=0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert fake.runtime.running == {}
    assert not (fake.world / "fault").exists()
    assert fake.runtime.envs["engineered"]["LAB_PREFIX"] in fake.dropped
    told = [line.split() for line in fake.text.splitlines() if line.strip().startswith("week09-day")]
    assert [(line[0], line[-1]) for line in told[-2:]] == [("week09-day9", "interrupted"), ("week09-day8", "run")]


async def test_a_day_that_a_stand_in_cannot_show_is_skipped_and_the_others_are_judged(
    fake: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = "services: {engine: {image: '${SEARCH_IMAGE:-search/engine:9.2.1}'}}"
    (fake.root / "docker-compose.yml").write_text(compose)
    asked: list[str] = []

    def labelled(images: Iterable[str]) -> list[str]:
        asked.extend(images)
        return ["search/engine:9.2.1"]

    monkeypatch.setattr("labs.engine.run.stand_ins", labelled)
    picky = replace(fake.lab(), day=8, official_images=("engine",))
    assert await fake.run_all([picky], Options(variant="engineered")) == 0
    assert "VERDICT week09-day8 engineered" in fake.text

    fake.runtime.name = "docker"
    assert await fake.run_all([picky, fake.lab()]) == 0
    assert "VERDICT week09-day8 skipped" in fake.text
    assert "another build under that name" in fake.text
    assert "1 pass, 1 skipped of 2 days; " in fake.text
    assert set(asked) >= {"search/engine:9.2.1"}

    assert await fake.run_all([picky]) == 3
