"""The small parts: what a machine cannot do is said, minutes add up, bins keep every operation, files can be read again."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from infra.runtime import Runtime, RuntimeProblem
from labs.chaos.context import ByHand
from labs.engine import files
from labs.engine.files import read, read_lines
from labs.engine.model import Operation, Outcome, Phase, Verdict
from labs.engine.verdict import Judgement
from labs.soak import growth
from labs.soak import run as running
from labs.soak.chart import MOST_BINS, binned
from labs.soak.deck import Group, cards, drawn
from labs.soak.house import Outcome as Soaked
from labs.soak.judging import Judged
from labs.soak.results import GrowthFile, growth_file
from labs.soak.run import FITS_BYTES, sorted_out, why_no_small_disk
from labs.soak.samples import Sample
from labs.soak.timing import SoakTiming


def operation(at: float, outcome: Outcome = Outcome.OK) -> Operation:
    return Operation("1", "a-1", "thing", Phase.INJECT, at, at, at, 1, 201, outcome, None, {})


# --- a full disk ------------------------------------------------------------------------------------------------------


class Volume:
    """As much of ByHand as finding a volume needs."""

    def __init__(self, folder: Path | RuntimeProblem) -> None:
        self.folder = folder

    def volume(self, service: str) -> Path:
        if isinstance(self.folder, RuntimeProblem):
            raise self.folder
        return self.folder


def asked(folder: Path | RuntimeProblem) -> str:
    return why_no_small_disk(cast("ByHand", Volume(folder)))


def allowed(_: Path) -> None:
    return


def test_without_the_right_to_mount_no_disk_is_filled_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> None:
        raise RuntimeProblem("A full disk needs the right to mount a tmpfs, which is refused here.")

    monkeypatch.setattr(running, "require_mount_right", refused)
    assert asked(tmp_path) == "A full disk needs the right to mount a tmpfs, which is refused here."


def test_a_volume_that_does_not_fit_a_small_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "require_mount_right", allowed)
    assert asked(tmp_path) == ""
    (tmp_path / "segment").write_bytes(b"x" * (FITS_BYTES + 4096))
    assert "too much for a disk of 64 MiB" in asked(tmp_path)


def test_a_volume_out_of_reach_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    assert asked(RuntimeProblem("kafka has no named volume of its own.")) == "kafka has no named volume of its own."
    assert asked(tmp_path / "nowhere" / "volume")


def test_what_cannot_be_done_is_left_out_and_told_and_all_else_stays() -> None:
    def nowhere(_: Runtime, service: str) -> Path:
        return Path(service)

    planned = drawn(cards(nowhere), seed=1, seconds=700, minutes=12)
    assert sorted_out(planned, "") == (list(planned), [])
    possible, told = sorted_out(planned, "no root")
    assert told == ["full disk of kafka: no root"]
    assert [one for one in planned if one.card.group is not Group.DISK] == possible


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [2, 3, 30, 480])
def test_the_minutes_are_baseline_faults_and_hold(minutes: float) -> None:
    timing = SoakTiming(minutes)
    assert timing.baseline + timing.inject + timing.hold == pytest.approx(minutes * 60)
    assert timing.inject > 60
    assert timing.hold >= 15, "recovery is judged from 10 s after the last heal on"


# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3.0, 60.0, 1800.0, 7200.0])
def test_every_operation_is_in_one_bin(seconds: float) -> None:
    outcomes = [Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN]
    operations = [operation(10 + seconds * number / 999, outcomes[number % 3]) for number in range(999)]
    bins = binned(operations, 10.0, 10.0 + seconds)
    assert len(bins) <= MOST_BINS + 2
    length = bins[1].at - bins[0].at
    assert sum(one.ok for one in bins) * length == pytest.approx(333)
    assert sum(one.fail for one in bins) * length == pytest.approx(333)
    assert sum(one.unknown for one in bins) * length == pytest.approx(333)


# --- files ------------------------------------------------------------------------------------------------------------


def test_its_own_files_can_be_read_again(tmp_path: Path) -> None:
    samples = [
        Sample(at=at, service="a", pid=1, started_at=0.0, memory_bytes=5 << 20, descriptors=None) for at in (1.0, 2.0)
    ]
    files.append(tmp_path / "samples.jsonl", samples)
    assert read_lines(tmp_path / "samples.jsonl", Sample) == samples
    judged = Judged(
        (), Judgement(Verdict.PASS), tuple(growth.figures(samples, (0.0, 2.0), 30)), ("memory_is_flat: short",)
    )
    document = growth_file(Soaked("lab00000_"), judged, ["full disk: no root"])
    files.write(tmp_path / "growth.json", document)
    assert read(tmp_path / "growth.json", GrowthFile) == document
