"""The whole engine on a world without servers: each planted bug must give the right verdict."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import jsonschema
import msgspec
import pytest

from labs.engine import Discriminates, Evidence, Scenario, Settled, Status, at, phases, schedule
from labs.engine.files import FILES, HistoryLine, ProbeLine, read_lines, schema_path
from labs.engine.model import Phase, Verdict
from labs.engine.run import Options
from tests.labs.fake_world import FakeLab, FakeRuntime, FlagFault, ledger, throws

pytestmark = pytest.mark.slow


@pytest.fixture
def fake(tmp_path: Path) -> FakeLab:
    return FakeLab(tmp_path)


def only_naive() -> Options:
    return Options(variant="naive")


def only_engineered() -> Options:
    return Options(variant="engineered")


async def test_a_naive_variant_that_doubles_and_an_engineered_one_that_holds_is_a_pass(fake: FakeLab) -> None:
    assert await fake.run() == 0
    verdict = fake.verdict
    assert verdict.verdict is Verdict.PASS
    assert verdict.reasons == []
    naive = verdict.variants["naive"].invariants["exactly_once"]
    assert naive.status is Status.BROKEN
    assert naive.count >= 5
    assert len(naive.offenders) == min(10, naive.count)
    assert verdict.variants["engineered"].invariants["exactly_once"].status is Status.HELD
    assert verdict.variants["engineered"].recovery_seconds is not None
    assert fake.text.rstrip().splitlines()[-1] == "VERDICT week09-day9 pass"


async def test_every_file_of_a_run_fits_its_schema(fake: FakeLab) -> None:
    await fake.run()
    for name in FILES:
        schema = msgspec.json.decode(schema_path(name).read_bytes())
        path = fake.folder / name
        texts = path.read_text().splitlines() if name.endswith(".jsonl") else [path.read_text()]
        assert texts
        for text in texts:
            jsonschema.validate(msgspec.json.decode(text), schema)


async def test_the_history_holds_control_and_run_of_both_variants_in_the_time_of_the_run(fake: FakeLab) -> None:
    await fake.run()
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    assert {line.variant for line in lines} == {"naive", "engineered"}
    assert {"control", "baseline", "inject", "hold"} <= {line.phase.value for line in lines}
    assert all(0 <= line.intended_at < 60 for line in lines)


async def test_the_report_is_one_small_file_with_the_offender_told_step_by_step(fake: FakeLab) -> None:
    await fake.run(options=Options(predict="It will double <some>."))
    html = (fake.folder / "report.html").read_text()
    assert len(html.encode()) < 1_000_000
    assert "It will double &lt;some&gt;." in html
    offender = fake.verdict.variants["naive"].invariants["exactly_once"].offenders[0]
    assert f"charges {offender} again" in html
    assert html.count("<svg") == 2
    assert "src=" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")


async def test_a_lost_operation_fails_the_engineered_variant_and_is_named(fake: FakeLab) -> None:
    fake.bugs = {"naive": {"fault": "duplicate"}, "engineered": {"fault": "lose"}}
    assert await fake.run() == 1
    part = fake.verdict.variants["engineered"].invariants["exactly_once"]
    assert part.status is Status.BROKEN
    assert part.offenders[0] in " ".join(fake.verdict.reasons)


async def test_a_duplicated_operation_fails_the_engineered_variant(fake: FakeLab) -> None:
    fake.bugs = {"engineered": {"fault": "duplicate"}}
    assert await fake.run(options=only_engineered()) == 1
    assert fake.text.rstrip().endswith("VERDICT week09-day9 engineered fail")


async def test_a_contradicted_operation_fails_the_engineered_variant(fake: FakeLab) -> None:
    fake.bugs = {"engineered": {"fault": "contradict"}}
    assert await fake.run(options=only_engineered()) == 1
    assert fake.verdict.variants["engineered"].invariants["nothing_contradicted"].status is Status.BROKEN


async def test_a_checker_that_throws_gives_unknown(fake: FakeLab) -> None:
    assert await fake.run(fake.lab(invariants=(throws,))) == 3
    assert "ZeroDivisionError" in " ".join(fake.verdict.reasons)


async def test_a_fault_without_receipt_gives_unknown_though_everything_held(fake: FakeLab) -> None:
    assert await fake.run(fake.lab(fault=FlagFault(fake.world, proven=False))) == 3
    assert "has no receipt" in fake.verdict.reasons[0]


async def test_a_fault_that_crashes_gives_unknown(fake: FakeLab) -> None:
    assert await fake.run(fake.lab(fault=FlagFault(fake.world, crashes=True))) == 3
    assert "a mistake in the fault" in fake.verdict.reasons[0]


async def test_a_baseline_that_is_not_steady_gives_unknown_and_injects_nothing(fake: FakeLab) -> None:
    fake.bugs = {"naive": {"always": "error"}}
    assert await fake.run(options=only_naive()) == 3
    assert "nothing was injected" in fake.verdict.reasons[0]
    assert not (fake.world / "fault").exists()
    assert "flag" not in (fake.folder / "faults.jsonl").read_text()


async def test_a_variant_that_breaks_without_any_fault_gives_unknown(fake: FakeLab) -> None:
    fake.bugs = {"naive": {"always": "duplicate"}}
    assert await fake.run(options=only_naive()) == 3
    assert fake.verdict.reasons[0].startswith("control: without any fault, naive did not hold exactly_once")


async def test_a_heal_that_fails_gives_unknown_and_judges_nothing_after_it(
    fake: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "HEAL_PAUSE_SECONDS", 0.01)
    fake.bugs = {"engineered": {"fault": "lose"}}
    assert await fake.run(fake.lab(fault=FlagFault(fake.world, heals=False)), only_engineered()) == 3
    assert "heal failed" in " ".join(fake.verdict.reasons)
    assert fake.verdict.variants["engineered"].invariants == {}


async def test_a_variant_that_stays_healthy_and_refuses_everybody_after_the_fault_has_not_recovered(
    fake: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "STEADY_AGAIN_WITHIN_SECONDS", 1.0)
    fake.bugs = {"engineered": {"since": "error"}}
    lab = replace(fake.lab(), faults=(at(0.3, FlagFault(fake.world, lasting=0.1)),))
    assert await fake.run(lab, only_engineered()) == 1
    assert "did not recover in time: steady_again (error_rate 1 share, limit 0.01)" in " ".join(fake.verdict.reasons)
    assert fake.verdict.variants["engineered"].recovery_seconds is None


async def test_a_variant_that_acknowledges_nothing_under_the_fault_shows_nothing_though_all_is_held(
    fake: FakeLab,
) -> None:
    fake.bugs = {"engineered": {"fault": "error"}}
    lab = replace(fake.lab(), faults=(at(0.0, FlagFault(fake.world, lasting=1.5)),))
    assert await fake.run(lab, only_engineered()) == 3
    part = fake.verdict.variants["engineered"]
    assert {one.status for one in part.invariants.values()} == {Status.HELD}
    assert "operations while the faults lasted" in fake.verdict.reasons[0]
    assert await fake.run(replace(lab, acknowledged_at_least=0.0), only_engineered()) == 0


async def test_what_settles_only_after_its_bound_has_not_settled(fake: FakeLab) -> None:
    asked = 0

    async def slow(evidence: Evidence) -> str:
        nonlocal asked
        asked += bool(evidence.faults)
        return "one is open" if asked == 1 else ""

    lab = replace(fake.lab(), settled=(Settled("slow", slow, within=0.1),))
    fake.bugs = {}
    # The first answer comes in time and says that something is open, the second one comes too late to count.
    assert await fake.run(lab, only_engineered()) == 1
    assert "did not recover in time: slow (only after" in " ".join(fake.verdict.reasons)


async def test_the_steady_state_is_taken_before_during_and_after_the_faults(fake: FakeLab) -> None:
    await fake.run(options=only_engineered())
    taken = {one.phase for one in read_lines(fake.folder / "probes.jsonl", ProbeLine) if one.name == "error_rate"}
    assert taken == {Phase.BASELINE, Phase.HOLD, Phase.SETTLE}


async def test_the_report_says_no_more_than_what_was_tried(fake: FakeLab) -> None:
    await fake.run(options=only_naive())
    html = (fake.folder / "report.html").read_text()
    assert "The claim held" not in html
    assert "the other variants did not run" in html


async def test_keep_interrupted_while_it_injects_once_more_leaves_nothing(fake: FakeLab) -> None:
    fake.runtime.start("postgres")
    run = asyncio.ensure_future(fake.run(options=replace(only_naive(), keep=True)))
    while "Once more" not in fake.text or not (fake.world / "fault").exists():
        assert not run.done(), fake.text
        await asyncio.wait([run], timeout=0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert "naive" not in fake.runtime.running
    assert not (fake.world / "fault").exists()
    assert fake.runtime.envs["naive"]["LAB_PREFIX"] in fake.dropped


async def test_a_naive_variant_that_holds_proves_nothing(fake: FakeLab) -> None:
    fake.bugs = {}
    assert await fake.run() == 1
    assert "does not discriminate" in fake.verdict.reasons[0]
    assert fake.text.rstrip().endswith("VERDICT week09-day9 fail")


async def test_a_naive_variant_that_merely_crashes_has_not_broken_the_claim(fake: FakeLab) -> None:
    fake.bugs = {"naive": {"fault": "error"}}
    fake.runtime.exited.add("naive")
    assert await fake.run() == 1
    assert "crashing is not breaking" in fake.verdict.reasons[0]


async def test_a_naive_variant_without_the_table_has_not_broken_the_claim(fake: FakeLab) -> None:
    lab = replace(fake.lab(invariants=(ledger,)), discriminates=Discriminates(ledger))
    assert await fake.run(lab) == 1
    assert "does not apply to naive" in fake.verdict.reasons[0]


async def test_a_slow_generator_gives_unknown(fake: FakeLab) -> None:
    fake.bugs = {"engineered": {"always": "late"}}
    assert await fake.run(options=only_engineered()) == 3
    assert "measured the generator" in fake.verdict.reasons[0]


async def test_a_variant_that_does_not_start_gives_unknown(fake: FakeLab) -> None:
    fake.runtime.broken.add("engineered")
    assert await fake.run(options=only_engineered()) == 3
    assert "exited with code 1" in fake.verdict.reasons[0]


async def test_one_naive_variant_alone_says_what_it_broke(fake: FakeLab) -> None:
    assert await fake.run(options=only_naive()) == 0
    count = fake.verdict.variants["naive"].invariants["exactly_once"].count
    assert fake.text.rstrip().splitlines()[-1] == f"VERDICT week09-day9 naive broke exactly_once {count}"


async def test_each_variant_gets_a_prefix_of_its_own_that_is_dropped_afterwards(fake: FakeLab) -> None:
    await fake.run()
    prefixes = [prefix for prefix in fake.dropped if prefix is not None]
    assert len(set(prefixes)) == 2
    assert fake.runtime.envs["naive"]["LAB_PREFIX"] == prefixes[0]
    assert fake.runtime.envs["engineered"]["LAB_PREFIX"] == prefixes[1]


async def test_what_this_command_started_is_brought_down_and_what_ran_before_is_left(tmp_path: Path) -> None:
    ours = FakeLab(tmp_path)
    await ours.run(options=only_naive())
    assert ours.runtime.calls[-1] == "down"
    runtime = FakeRuntime()
    runtime.start("postgres")
    (tmp_path / "second").mkdir()
    theirs = FakeLab(tmp_path / "second", runtime=runtime)
    await theirs.run(options=only_naive())
    assert "down" not in runtime.calls
    assert "postgres" in runtime.running
    assert "naive" not in runtime.running


async def test_keep_injects_once_more_and_leaves_the_variant_running(fake: FakeLab) -> None:
    assert await fake.run(options=replace(only_naive(), keep=True)) == 0
    assert "naive" in fake.runtime.running
    assert "down" not in fake.runtime.calls
    assert "make down" in fake.text
    assert fake.runtime.envs["naive"]["LAB_PREFIX"] not in fake.dropped
    assert fake.text.rstrip().splitlines()[-1].startswith("VERDICT")


async def test_the_worst_scenario_stands_on_top(fake: FakeLab) -> None:
    calm = Scenario(name="calm", faults=())
    stormy = Scenario(name="stormy", faults=(at(0.05, FlagFault(fake.world)),))
    lab = replace(fake.lab(), faults=(), scenarios=(stormy, calm))
    assert await fake.run(lab) == 1
    assert set(fake.verdict.scenarios) == {"calm", "stormy"}
    assert fake.verdict.scenarios["calm"].variants["naive"].invariants["exactly_once"].status is Status.HELD
    assert fake.verdict.variants["naive"].invariants["exactly_once"].status is Status.BROKEN
    assert "does not discriminate" in fake.verdict.reasons[0]


async def test_a_short_run_injects_its_own_faults_at_their_own_times(fake: FakeLab) -> None:
    lab = replace(fake.lab(), short_faults=(at(0.1, replace(FlagFault(fake.world), kind="short_flag")),))
    assert await fake.run(lab, replace(only_naive(), short=True)) == 0
    assert '"short_flag"' in (fake.folder / "faults.jsonl").read_text()


async def test_what_the_processes_wrote_is_kept_when_the_experiment_failed(fake: FakeLab) -> None:
    await fake.run(fake.lab(fault=FlagFault(fake.world, proven=False)), only_engineered())
    assert (fake.folder / "raw" / "main-engineered-engineered.log").exists()
    assert (fake.folder / "raw" / "main-engineered-load.log").exists()


async def test_nothing_raw_is_left_of_a_run_that_went_well(fake: FakeLab) -> None:
    await fake.run(options=only_naive())
    assert not (fake.folder / "raw").exists()


async def test_an_unknown_variant_is_refused_before_anything_starts(fake: FakeLab) -> None:
    with pytest.raises(ValueError, match="has no variant 'clever'; it has naive, engineered"):
        await fake.run(options=Options(variant="clever"))
    assert fake.runtime.calls == []
