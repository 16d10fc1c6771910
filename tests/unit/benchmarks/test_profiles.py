from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import profiles
from benchmarks.figures.profiles import AIMS, ProfileFigures
from infra.runtime import RuntimeProblem, ServiceStatus


def test_dockers_sizes_are_read(tmp_path: Path) -> None:
    assert [profiles.bytes_of(text) for text in ("0B", "12kB", "48.3MB", "1.5GB")] == [0, 12_000, 48.3e6, 1.5e9]


@pytest.mark.parametrize("text", ["", "N/A", "12", "1,5GB", "12 PiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        profiles.bytes_of(text)


def test_only_the_projects_own_volumes_count() -> None:
    volumes = [{"Name": "lab-bench_pg", "Size": "1.048576MB"}, {"Name": "lab_pg", "Size": "9GB"}]
    assert profiles.volumes_mib(volumes, "lab-bench") == 1.0


def test_a_folder_takes_its_blocks_with_hard_links_once_and_links_out_of_it_not_at_all(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (there / "elsewhere").write_bytes(os.urandom(4 << 20))
    (here / "one").write_bytes(os.urandom(1 << 20))
    os.link(here / "one", here / "two")
    os.link(here / "one", there / "three")
    (here / "away").symlink_to(there)
    assert profiles.disk_mib(here) == pytest.approx(1, abs=0.2)
    assert profiles.disk_mib(here, there) == pytest.approx(5, abs=0.2)
    assert profiles.disk_mib(tmp_path / "gone") == 0


def test_data_below_a_link_counts_since_servers_that_refuse_root_have_theirs_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "one").write_bytes(os.urandom(1 << 20))
    (tmp_path / "postgres").symlink_to(tmp_path / "real")
    assert profiles.disk_mib(tmp_path / "postgres") == pytest.approx(1, abs=0.2)


def test_the_most_memory_of_each_service_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: Iterator[list[tuple[str, int | None]]] = iter(
        [[("kafka", 300), ("postgres", None)], [("kafka", 400), ("postgres", 50)], [("kafka", 350)]]
    )

    class Running:
        def status(self) -> list[ServiceStatus]:
            return [
                ServiceStatus(name, "running", 1, None, None, None if size is None else size << 20, None, None, 0, "")
                for name, size in next(looks)
            ]

    monkeypatch.setattr(profiles, "HOLD_SECONDS", 3)
    monkeypatch.setattr("benchmarks.profiles.time.sleep", lambda _: None)
    assert profiles.memory_mib(Running()) == {"kafka": 400, "postgres": 50}  # type: ignore[arg-type]


def test_a_profile_that_does_not_start_ends_the_benchmark_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeProblem, match="'make up profile=week2' ended with exit code 1"):
        profiles.up("week2")


@pytest.mark.parametrize("failing", [("week7", "story"), ("week2", "week7", "story")])
def test_a_profile_that_cannot_be_had_here_is_named_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    def measured(profile: str, rounds: int) -> ProfileFigures:
        if profile in failing:
            raise RuntimeProblem("Docker said: no such image.")
        return ProfileFigures(
            services=rounds, cold_seconds=[1.0], warm_seconds=[1.0], stop_seconds=[1.0], disk_mib=1.0, memory_mib={}
        )

    monkeypatch.setenv("LAB_RUNTIME", "native")
    monkeypatch.setattr("benchmarks.profiles.projects.remove", lambda *_: None)
    monkeypatch.setattr(profiles, "measured", measured)
    monkeypatch.setattr(profiles, "setup_mib", lambda _: {})
    if len(failing) == 3:
        with pytest.raises(RuntimeProblem, match="No profile could be started"):
            profiles.main(rounds=1, seconds=1)
    else:
        found = profiles.main(rounds=1, seconds=1)
        assert list(found.profiles) == ["week2"]
        assert ("week7: did not start", "Docker said: no such image.") in [
            (row.figure, row.shown) for row in found.rows()
        ]


def test_each_profile_is_measured_cold_and_warm_and_left_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def took(what: str) -> float:
        done.append(what)
        return float(len(done))

    monkeypatch.setattr("benchmarks.profiles.projects.remove", lambda *_: took("remove"))
    monkeypatch.setattr("benchmarks.profiles.projects.current", lambda *_: None)
    monkeypatch.setattr(profiles, "up", lambda profile: took(f"up {profile}"))
    monkeypatch.setattr(profiles, "down", lambda: took("down"))
    monkeypatch.setattr(profiles, "data_mib", lambda _: 100.0)
    monkeypatch.setattr(profiles, "memory_mib", lambda _: {"kafka": 300.0})
    monkeypatch.setattr(profiles, "setup_mib", lambda _: {})
    monkeypatch.setenv("LAB_RUNTIME", "native")
    found = profiles.main(rounds=2, seconds=10)
    once = ["remove", "up week2", "down", "up week2", "down"]
    assert done[:11] == [*once * 2, "remove"]
    assert done[-1] == "remove"
    assert list(found.profiles) == list(AIMS)
    assert found.profiles["week2"].cold_seconds == [2.0, 7.0]
    assert found.profiles["week2"].warm_seconds == [4.0, 9.0]
    assert found.profiles["week2"].services > 20
