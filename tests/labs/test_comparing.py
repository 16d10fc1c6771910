"""A lab that asks questions instead of loading and breaking, on the world without servers: the same verdicts, the same files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labs.__main__ import main
from labs.engine import (
    Answered,
    Comparison,
    Discriminates,
    Evidence,
    FaultContext,
    Finding,
    Lab,
    Outcome,
    Phase,
    Round,
    Status,
    Variant,
    VariantRole,
)
from labs.engine.files import HistoryLine, read_lines
from labs.engine.model import NO_LOAD, Verdict
from labs.engine.planning import day_seconds
from labs.engine.run import Options
from labs.engine.timing import plan
from tests.labs.fake_world import FakeLab

pytestmark = pytest.mark.slow

QUESTIONS = 8
VARIANTS = {
    "naive": Variant(role=VariantRole.NAIVE, roles={"sut": "postgres"}, processes=()),
    "engineered": Variant(role=VariantRole.ENGINEERED, roles={"sut": "postgres"}, processes=()),
}


@dataclass
class Oracle:
    """Answers rightly, but for those who are `wrong`: of them it is said in which phase."""

    wrong: dict[str, frozenset[Phase]] = field(default_factory=lambda: {"naive": frozenset({Phase.BASELINE})})
    crashes: Exception | None = None
    silent: bool = False
    rounds: list[Round] = field(default_factory=list)

    async def ask(self, ctx: FaultContext, about: Round) -> Sequence[Answered]:
        self.rounds.append(about)
        about.note("asking")
        if self.crashes is not None and not about.control:
            raise self.crashes
        if self.silent and not about.control:
            return []
        phase = Phase.CONTROL if about.control else Phase.BASELINE
        worth = "0" if phase in self.wrong.get(about.variant, frozenset()) else "1"
        return [
            Answered(f"{phase.value} {number}", "question", ctx.now(), ctx.now() + 0.001, result={"worth": worth})
            for number in range(QUESTIONS)
        ]


async def answered_well(evidence: Evidence) -> Finding:
    """Every question has a good answer."""
    return Finding.of([one.key for one in evidence.history if one.result["worth"] != "1"])


@pytest.fixture
def fake(tmp_path: Path) -> FakeLab:
    return FakeLab(tmp_path)


def lab(oracle: Oracle, *, at_least: int = QUESTIONS) -> Lab:
    return Lab(
        week=9,
        day=9,
        title="A day of questions",
        question="Who knows?",
        hypothesis="The naive variant does not.",
        explanation="It guesses.",
        variants=VARIANTS,
        comparison=Comparison(oracle.ask, seconds=40, short_seconds=10),
        invariants=(answered_well,),
        discriminates=Discriminates(answered_well, at_least=at_least),
        infrastructure=("postgres",),
    )


async def test_the_naive_variant_fails_where_it_should_and_the_lab_passes(fake: FakeLab) -> None:
    oracle = Oracle()
    assert await fake.run(lab(oracle)) == 0, fake.text
    naive, engineered = fake.verdict.variants["naive"], fake.verdict.variants["engineered"]
    assert naive.invariants["answered_well"].count == QUESTIONS
    assert engineered.invariants["answered_well"].status is Status.HELD
    assert engineered.latency_ms is not None
    assert [(one.variant, one.control) for one in oracle.rounds] == [
        ("naive", True), ("naive", False), ("engineered", True), ("engineered", False),
    ]  # fmt: skip
    assert "Questions asked one after the other" in (fake.folder / "report.html").read_text()
    assert "recovered after heal" in fake.text


async def test_the_history_has_a_line_for_each_question_of_control_and_baseline(fake: FakeLab) -> None:
    await fake.run(lab(Oracle()))
    lines = read_lines(fake.folder / "history.jsonl", HistoryLine)
    assert {line.phase for line in lines} == {Phase.CONTROL, Phase.BASELINE}
    assert sum(line.variant == "naive" and line.phase == Phase.BASELINE for line in lines) == QUESTIONS
    assert all(line.outcome is Outcome.OK for line in lines)


async def test_each_variant_has_a_prefix_of_its_own_which_is_dropped(fake: FakeLab) -> None:
    oracle = Oracle()
    await fake.run(lab(oracle))
    prefixes = {one.prefix for one in oracle.rounds}
    assert len(prefixes) == 2
    assert prefixes <= set(fake.dropped)


async def test_a_naive_variant_that_is_right_shows_nothing(fake: FakeLab) -> None:
    assert await fake.run(lab(Oracle(wrong={}))) == 1
    assert "the experiment does not discriminate" in fake.verdict.reasons[0]


async def test_an_engineered_variant_that_is_wrong_fails(fake: FakeLab) -> None:
    wrong = {"naive": frozenset({Phase.BASELINE}), "engineered": frozenset({Phase.BASELINE})}
    assert await fake.run(lab(Oracle(wrong=wrong))) == 1


async def test_a_variant_that_is_wrong_in_the_control_is_unknown(fake: FakeLab) -> None:
    wrong = {"naive": frozenset({Phase.CONTROL, Phase.BASELINE})}
    assert await fake.run(lab(Oracle(wrong=wrong))) == 3
    assert fake.verdict.verdict is Verdict.UNKNOWN
    assert "control: asked what every variant can answer, naive did not hold" in fake.verdict.reasons[0]


@pytest.mark.parametrize(
    ("error", "says"),
    [(OSError("the disk is full"), "the disk is full"), (KeyError("a mistake in the lab"), "it crashed with KeyError")],
)
async def test_what_cannot_be_asked_is_unknown_with_its_reason(fake: FakeLab, error: Exception, says: str) -> None:
    assert await fake.run(lab(Oracle(crashes=error))) == 3
    assert any(says in reason for reason in fake.verdict.reasons)


async def test_who_is_asked_nothing_has_shown_nothing(fake: FakeLab) -> None:
    assert await fake.run(lab(Oracle(silent=True))) == 3
    assert "was asked nothing" in fake.verdict.reasons[0]


async def test_one_variant_alone_says_what_the_naive_one_broke(fake: FakeLab) -> None:
    assert await fake.run(lab(Oracle()), Options(variant="naive")) == 0
    assert f"VERDICT week09-day9 naive broke answered_well {QUESTIONS}" in fake.text


async def test_size_and_seed_reach_the_questions(fake: FakeLab) -> None:
    oracle = Oracle()
    await fake.run(lab(oracle), Options(docs=5000, seed=7))
    assert {(one.docs, one.seed, one.short) for one in oracle.rounds} == {(5000, 7, False)}


async def test_kept_it_asks_once_more_and_leaves_the_last_variant(fake: FakeLab) -> None:
    oracle = Oracle()
    await fake.run(lab(oracle), Options(variant="engineered", keep=True))
    assert [one.control for one in oracle.rounds] == [True, False, False]
    assert oracle.rounds[-1].prefix not in fake.dropped


async def test_rate_and_seconds_are_refused(fake: FakeLab) -> None:
    with pytest.raises(ValueError, match="has no load: leave out rate and seconds"):
        await fake.run(lab(Oracle()), Options(rate=5))


def test_a_lab_has_either_a_load_or_a_comparison(fake: FakeLab) -> None:
    with pytest.raises(ValueError, match="either a load or a comparison"):
        replace(lab(Oracle()), comparison=None)
    with pytest.raises(ValueError, match="either a load or a comparison"):
        replace(fake.lab(), comparison=Comparison(Oracle().ask, 1, 1))
    with pytest.raises(ValueError, match="no faults and no scenarios"):
        replace(fake.lab(), load=NO_LOAD, comparison=Comparison(Oracle().ask, 1, 1))


@pytest.mark.parametrize("docs", ["0", "999", "10000001", "-5", "many"])
def test_a_catalogue_of_an_impossible_size_is_a_usage_error(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--week", "7", "--docs", docs])
    assert ended.value.code == 2
    assert "--docs" in capsys.readouterr().err


def test_a_day_is_planned_by_what_its_rounds_take() -> None:
    asked = lab(Oracle())
    full = day_seconds(asked, plan(asked.load))
    assert 80 < full < 180
    assert day_seconds(asked, plan(asked.load, short=True), short=True) < full


async def test_the_files_are_valid(fake: FakeLab) -> None:
    await fake.run(lab(Oracle()))
    experiment = json.loads((fake.folder / "experiment.json").read_text())
    assert experiment["load"]["rate"] == 0
    assert list(experiment["scenarios"]) == ["main"]
