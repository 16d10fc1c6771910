from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.simulators.target.domain import Call, Checks, Reason, Target, decide

EPOCHS = st.none() | st.integers(0, 20)


def call(run_id: str | None, epoch: int | None) -> Call:
    return Call(Target.BOTH, "job_1", "2026-01-01T00:00:00Z", run_id, epoch)


@given(EPOCHS, EPOCHS, st.booleans())
def test_a_stale_epoch_is_never_applied_and_a_seen_run_neither(
    epoch: int | None, highest: int | None, seen: bool
) -> None:
    reason = decide(call("run_1", epoch), highest_epoch=highest, run_seen=seen)
    stale = epoch is not None and highest is not None and epoch < highest
    assert (reason is Reason.STALE_EPOCH) == stale
    assert (reason is Reason.APPLIED) == (not stale and not seen)


@given(EPOCHS, st.booleans())
def test_who_brings_neither_number_is_obeyed(highest: int | None, seen: bool) -> None:
    assert decide(call(None, None), highest_epoch=highest, run_seen=seen) is Reason.UNGUARDED


def test_each_target_checks_what_its_name_says() -> None:
    assert Checks.of(Target.BOTH) == Checks(dedup=True, fencing=True)
    assert Checks.of(Target.DEDUP_ONLY) == Checks(dedup=True, fencing=False)
    assert Checks.of(Target.FENCING_ONLY) == Checks(dedup=False, fencing=True)
