"""The verdict, from findings alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from labs.engine.model import Finding, Status, VariantRole, Verdict
from labs.engine.verdict import (
    Claim,
    TrialSummary,
    judge_lab,
    judge_naive,
    judge_trial,
    worst,
    worst_status,
)

CLAIM = Claim("once", 5)
HELD = Finding(Status.HELD)


def broken(count: int = 1) -> Finding:
    return Finding.of([f"order-{number}" for number in range(count)])


BROKEN = broken(17)


def naive(finding: Finding = BROKEN) -> TrialSummary:
    return TrialSummary("main", "naive", VariantRole.NAIVE, {"once": finding, "other": HELD})


def engineered(**findings: Finding) -> TrialSummary:
    return TrialSummary("main", "engineered", VariantRole.ENGINEERED, {"once": HELD, "other": HELD, **findings})


def lab(*trials: TrialSummary) -> Verdict:
    return judge_lab(trials, {"main": CLAIM}).verdict


def test_pass_needs_a_naive_variant_that_breaks_and_an_engineered_one_that_holds_everything() -> None:
    assert lab(naive(), engineered()) is Verdict.PASS
    assert judge_lab([naive(), engineered()], {"main": CLAIM}).reasons == ()


def test_any_broken_invariant_of_the_engineered_variant_is_a_fail_that_names_offenders() -> None:
    judgement = judge_lab([naive(), engineered(other=broken(4))], {"main": CLAIM})
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons == ("engineered broke other: 4 (order-0, order-1, order-2, ...)",)


def test_a_naive_variant_that_holds_does_not_discriminate() -> None:
    judgement = judge_naive(naive(HELD), CLAIM)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons == ("the experiment does not discriminate: naive held once",)


def test_too_few_offenders_do_not_discriminate_and_just_enough_do() -> None:
    assert judge_naive(naive(broken(4)), CLAIM).verdict is Verdict.FAIL
    assert "4 times, at least 5" in judge_naive(naive(broken(4)), CLAIM).reasons[0]
    assert judge_naive(naive(broken(5)), CLAIM).verdict is Verdict.PASS


def test_breaking_another_invariant_than_the_claimed_one_does_not_count() -> None:
    trial = replace(naive(HELD), findings={"once": HELD, "other": broken(50)})
    assert judge_naive(trial, CLAIM).verdict is Verdict.FAIL


def test_a_naive_variant_that_merely_crashes_or_lacks_the_table_has_not_broken_the_claim() -> None:
    crashed = judge_naive(replace(naive(HELD), crashed=("naive (exit code 1)",)), CLAIM)
    lacking = judge_naive(naive(Finding.not_applicable("no table ledger")), CLAIM)
    assert crashed.verdict is lacking.verdict is Verdict.FAIL
    assert "crashing is not breaking" in crashed.reasons[0]
    assert "no table ledger" in lacking.reasons[0]


def test_a_naive_variant_is_unknown_when_the_experiment_or_its_checker_failed() -> None:
    assert judge_naive(replace(naive(), problems=("kill has no receipt",)), CLAIM).verdict is Verdict.UNKNOWN
    assert judge_naive(naive(Finding.unknown("it crashed")), CLAIM).verdict is Verdict.UNKNOWN
    assert judge_naive(replace(naive(), findings={}), CLAIM).verdict is Verdict.UNKNOWN


def test_an_engineered_variant_with_an_unknown_or_not_applicable_invariant_is_unknown() -> None:
    assert judge_trial(engineered(other=Finding.unknown("it crashed"))).verdict is Verdict.UNKNOWN
    assert judge_trial(engineered(other=Finding.not_applicable("no table"))).verdict is Verdict.UNKNOWN


def test_an_engineered_variant_that_does_not_recover_or_loses_a_process_fails() -> None:
    assert judge_trial(replace(engineered(), unsettled=("outbox (12 left)",))).verdict is Verdict.FAIL
    assert judge_trial(replace(engineered(), crashed=("api (exit code 1)",))).verdict is Verdict.FAIL


def test_a_trial_without_findings_shows_nothing() -> None:
    assert judge_trial(replace(engineered(), findings={})).verdict is Verdict.UNKNOWN


def test_fail_outranks_unknown_and_unknown_outranks_pass() -> None:
    doubtful = replace(engineered(), problems=("kill has no receipt",))
    assert lab(naive(), doubtful) is Verdict.UNKNOWN
    assert lab(naive(HELD), doubtful) is Verdict.FAIL
    assert lab(naive(), replace(engineered(once=broken()), problems=("no receipt",))) is Verdict.FAIL
    assert worst([]) is Verdict.UNKNOWN
    assert worst_status([Status.HELD, Status.NOT_APPLICABLE]) is Status.NOT_APPLICABLE


def test_compared_variants_decide_nothing() -> None:
    compared = TrialSummary("main", "other", VariantRole.COMPARED, {"once": broken(3)}, problems=("slow",))
    assert lab(naive(), engineered(), compared) is Verdict.PASS


def test_every_scenario_must_show_what_it_claims() -> None:
    trials = [naive(), engineered(), replace(naive(HELD), scenario="calm"), replace(engineered(), scenario="calm")]
    assert judge_lab(trials, {"main": CLAIM, "calm": CLAIM}).verdict is Verdict.FAIL


findings = st.sampled_from([HELD, broken(1), broken(9), Finding.unknown("x"), Finding.not_applicable("y")])
problems = st.sampled_from([(), ("no receipt",)])


@given(findings, findings, findings, problems, problems)
def test_a_pass_is_never_given_while_anything_speaks_against_it(
    of_naive: Finding, first: Finding, second: Finding, doubts: tuple[str, ...], more: tuple[str, ...]
) -> None:
    trials = [replace(naive(of_naive), problems=doubts), replace(engineered(once=first, other=second), problems=more)]
    judgement = judge_lab(trials, {"main": CLAIM})
    clean = of_naive.count >= 5 and first == second == HELD and not doubts and not more
    assert (judgement.verdict is Verdict.PASS) == clean
    assert bool(judgement.reasons) != clean


def test_a_learners_own_variant_may_lack_tables_but_not_all_that_is_asked_of_it() -> None:
    lacking = Finding.not_applicable("no table ledger_entries")
    yours = replace(engineered(other=lacking), may_lack=True)
    assert judge_trial(yours).verdict is Verdict.PASS
    assert judge_trial(replace(yours, findings={"once": lacking, "other": lacking})).verdict is Verdict.UNKNOWN
    assert judge_trial(replace(yours, findings={"once": broken(), "other": lacking})).verdict is Verdict.FAIL
