"""A volume on a small disk and back: nothing is lost, whenever it was interrupted. Needs the right to mount."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime import RuntimeProblem
from labs.faults import full_disk
from labs.faults.full_disk import BALLAST, SmallDisk, is_mounted, require_mount_right


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "a volume"
    folder.mkdir(mode=0o750)
    (folder / "rows").write_text("1\n")
    try:
        require_mount_right(folder)
    except RuntimeProblem as problem:
        pytest.skip(str(problem))
    small = SmallDisk(folder)
    try:
        yield small
    finally:
        small.make_room()
        small.enlarge()
        assert not is_mounted(folder)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a volume"]


def append(disk: SmallDisk, text: str) -> None:
    with (disk.folder / "rows").open("a") as rows:
        rows.write(text)


def test_a_full_disk_takes_no_byte_and_gives_back_what_was_written(disk: SmallDisk) -> None:
    disk.shrink()
    append(disk, "2\n")
    disk.fill()
    assert disk.free_bytes() == 0
    with pytest.raises(OSError, match="No space left") as caught:
        (disk.folder / "more").write_text("x")
    assert caught.value.errno == errno.ENOSPC
    disk.make_room()
    append(disk, "3\n")
    disk.enlarge()
    assert (disk.folder / "rows").read_text() == "1\n2\n3\n"
    assert not (disk.folder / BALLAST).exists()
    assert disk.folder.stat().st_mode & 0o777 == 0o750
    assert not disk.broken


def test_large_again_twice_is_the_same_as_once(disk: SmallDisk) -> None:
    disk.enlarge()
    disk.shrink()
    disk.enlarge()
    disk.enlarge()
    assert (disk.folder / "rows").read_text() == "1\n"


def test_an_interruption_between_copy_and_unmount_loses_nothing(disk: SmallDisk) -> None:
    disk.shrink()
    append(disk, "2\n")
    shutil.copytree(disk.folder, disk._kept)  # an older copy that was left behind is made anew
    append(disk, "3\n")
    disk.enlarge()
    assert (disk.folder / "rows").read_text() == "1\n2\n3\n"


def test_an_interruption_between_unmount_and_swap_loses_nothing(disk: SmallDisk) -> None:
    disk.shrink()
    append(disk, "2\n")
    shutil.copytree(disk.folder, disk._kept)
    full_disk._run("umount", str(disk.folder))
    assert disk.broken
    disk.enlarge()
    assert (disk.folder / "rows").read_text() == "1\n2\n"


def test_an_interruption_between_the_two_renames_loses_nothing(disk: SmallDisk) -> None:
    disk._kept.mkdir(mode=0o750)
    (disk._kept / "rows").write_text("1\n2\n")
    disk.folder.rename(disk.folder.with_name("a volume.old"))
    disk.enlarge()
    assert (disk.folder / "rows").read_text() == "1\n2\n"


def test_data_that_do_not_fit_are_refused_before_anything_happens(disk: SmallDisk) -> None:
    (disk.folder / "large").write_bytes(b"x" * (60 << 20))
    with pytest.raises(RuntimeProblem, match="The volume holds 60 MiB"):
        disk.require_room()
    (disk.folder / "large").unlink()
    with (disk.folder / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    disk.require_room()


def test_without_the_right_to_mount_it_is_refused_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RuntimeProblem, match="this is not root: run it with sudo"):
        require_mount_right(tmp_path / "volume")
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def refused(*argv: str) -> None:
        raise RuntimeProblem(f"'{argv[0]}' said: permission denied")

    monkeypatch.setattr(full_disk, "_run", refused)
    with pytest.raises(RuntimeProblem, match="refused here: 'mount' said: permission denied"):
        require_mount_right(tmp_path / "volume")
    assert list(tmp_path.iterdir()) == []
