"""What is judged beside the invariants."""

from __future__ import annotations

from labs.engine.judging import before_any_fault
from labs.engine.model import FaultRecord, Finding, Operation, Outcome, Phase, Variant, VariantRole
from labs.engine.trial import Trial


def operation(key: str, done_at: float | None) -> Operation:
    return Operation(key, key, "payment", Phase.BASELINE, 1.0, 1.0, done_at, 1, 201, Outcome.OK, None, {})


def test_an_offender_that_had_ended_before_the_first_fault_is_no_work_of_the_faults() -> None:
    trial = Trial("main", "naive", Variant(role=VariantRole.NAIVE, roles={}, processes=()), "laba1b2c_")
    trial.history = [operation("early", 9.0), operation("hit", 11.0), operation("open", None)]
    finding = Finding.of(["early", "hit", "open"])
    assert before_any_fault(trial, finding) == 0
    trial.faults = (FaultRecord("kill", "sut", "naive", {}, 10.0, 10.2, None, None, None),)
    assert before_any_fault(trial, finding) == 1
